use super::*;

fn parse(text: &str) -> Result<Instruction, String> {
    let statement = Statement::split(text.to_owned(), '\\', Frontend::NEWEST);
    super::parse(&statement, '\\', Frontend::NEWEST).map_err(|reason| reason.to_string())
}

fn command(text: &str) -> Command {
    match parse(text) {
        Ok(Instruction::Command(command)) => command,
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn stages_have_names_in_lower_case() {
    let from = |base: &str, name: Option<&str>, platform: &str| {
        let name = name.map(str::to_owned);
        Ok(Instruction::From(From { base: base.to_owned(), name, platform: platform.to_owned() }))
    };
    assert_eq!(parse("FROM a"), from("a", None, ""));
    assert_eq!(parse("from --platform=$P a As B.c"), from("a", Some("b.c"), "$P"));
    for text in ["FROM", "FROM a b", "FROM a as", "FROM a is b"] {
        assert!(parse(text).unwrap_err().contains("one or three arguments"), "{text}");
    }
    assert!(parse("FROM a AS 1").unwrap_err().contains("invalid name for build stage"));
}

#[test]
fn values_keep_their_quotes() {
    let env = |pairs: &[(&str, &str)]| {
        let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        Command::Env(pairs.iter().map(own).collect())
    };
    assert_eq!(
        command(r#"ENV A="b c" D=e\ f G='h"i'"#),
        env(&[("A", r#""b c""#), ("D", r"e\ f"), ("G", r#"'h"i'"#)])
    );
    assert_eq!(command("ENV A b  c=d "), env(&[("A", "b  c=d")]));
    assert!(parse("ENV A").unwrap_err().contains("two arguments"));
    assert!(parse("ENV A=b c").unwrap_err().contains("name=value"));
    assert!(parse("ENV =b").unwrap_err().contains("blank"));
    assert!(parse("ENV").unwrap_err().contains("at least one"));
    let arg = command("ARG A B= C=\"d e\"");
    let some = |value: &str| Some(value.to_owned());
    let expected = [("A", None), ("B", some("")), ("C", some("\"d e\""))];
    assert_eq!(arg, Command::Arg(expected.map(|(name, value)| (name.to_owned(), value)).into()));
}

#[test]
fn triggers_keep_their_text() {
    assert_eq!(command(" OnBuild   RUN  a  b"), Command::OnBuild("RUN  a  b".to_owned()));
    for text in ["ONBUILD", "ONBUILD ONBUILD RUN a", "ONBUILD from a", "ONBUILD Maintainer a"] {
        assert!(parse(text).is_err(), "{text}");
    }
}

#[test]
fn wrong_instructions_are_refused() {
    for (text, problem) in [
        ("RNU a", "unknown instruction: RNU"),
        ("RUN [1]", "comprised of strings only"),
        ("COPY a", "at least two arguments"),
        ("COPY a <<b", "cannot accept a heredoc as a destination"),
        ("WORKDIR", "exactly one"),
        ("SHELL a", "JSON form"),
        ("SHELL []", "at least one"),
        ("VOLUME []", "at least one"),
        ("HEALTHCHECK CMD []", "misses its command"),
        ("HEALTHCHECK X", "does not exist"),
        ("RUN --network=x a", "invalid network mode"),
        ("RUN --network= a", "invalid network mode"),
        ("RUN --security=x a", "security is not valid"),
        ("USER --x=1 a", "unknown flag: --x"),
    ] {
        assert!(parse(text).unwrap_err().contains(problem), "{text}");
    }
    // These two ignore flags.
    assert!(parse("ARG --x=1 a").is_ok() && parse("STOPSIGNAL --x=1 a").is_ok());
}
