//! Dockerfiles made at random, the same for the same seed: every instruction and flag, every form of words and heredocs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::compare::Build;

/// A generator of numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap_or_default()
    }

    /// True once in `n`.
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

const VARIABLES: &[&str] = &[
    "A",
    "B",
    "C",
    "D",
    "_x1",
    "PATH",
    "HOME",
    "UNSET",
    "TARGETARCH",
    "TARGETPLATFORM",
    "TARGETOS",
    "TARGETVARIANT",
    "BUILDPLATFORM",
    "BUILDARCH",
    "TARGETSTAGE",
    "TARGETOSVERSION",
    "G0",
    "G1",
    "G2",
    "SOURCE_DATE_EPOCH",
    "SSH_AUTH_SOCK",
    "É",
];

const LITERALS: &[&str] = &[
    "a", "b", "app", "x.y", "1", "0755", "foo/bar", "a-b", "é€", "<&>", "lib*", "v1.2.3", "*", "?",
    "aXbXc", "..", ".", "src", "/usr/lib", "\u{2028}", "a=b", "~", "x,y", "#", ":",
];

/// Sources of images. Each but the first two has a config.
const IMAGES: &[&str] =
    &["alpine", "busybox:1", "example.com:5000/x/y:2", "env", "dir", "user", "shell", "trigger"];

/// One Dockerfile at work.
struct Maker {
    numbers: Numbers,
    /// Whether flags that v0.16 does not know are left out.
    old: bool,
    escape: char,
    stages: Vec<Option<String>>,
    text: String,
}

/// Makes a build.
pub(crate) fn build(seed: u64) -> Build {
    let mut numbers = Numbers(seed.wrapping_mul(0xd134_2543_de82_ef95) ^ 0x5bf0_3635);
    let old = numbers.one_in(2);
    let escape = if numbers.one_in(6) { '`' } else { '\\' };
    let mut maker = Maker { numbers, old, escape, stages: Vec::new(), text: String::new() };
    maker.file();
    let opts = maker.opts();
    let images = images(&mut maker);
    let Maker { mut numbers, text, .. } = maker;
    let mut dockerfile = Vec::new();
    if numbers.one_in(12) {
        dockerfile.extend_from_slice(b"\xef\xbb\xbf");
    }
    let text = if numbers.one_in(10) { text.replace('\n', "\r\n") } else { text };
    dockerfile.extend_from_slice(text.as_bytes());
    let worker =
        numbers.pick(&["linux/amd64", "linux/amd64", "linux/arm64", "linux/arm/v7"]).to_owned();
    Build { name: format!("seed {seed}"), dockerfile, opts, images, worker }
}

fn images(maker: &mut Maker) -> BTreeMap<String, Value> {
    let shell = json!(["/bin/bash", "-o", "pipefail", "-c"]);
    let triggers = [
        "RUN on build $A",
        "COPY on /build",
        "ARG A=trigger",
        "RUN <<EOF\nheredoc\nEOF",
        "WORKDIR sub",
    ];
    let trigger = maker.numbers.pick(&triggers);
    let configs = [
        ("example.com:5000/x/y:2", json!({"Env": ["PATH=/a:/b", "LANG=C.UTF-8", "A=image"]})),
        ("env", json!({"Env": ["A=1", "B=", "NOVALUE", "D=x=y"]})),
        ("env@linux/arm64", json!({"Env": ["A=arm"]})),
        ("dir", json!({"WorkingDir": "/srv//app/"})),
        ("user", json!({"User": "app:staff", "Env": ["PATH=/bin"]})),
        ("shell", json!({"Shell": shell, "WorkingDir": "relative/dir"})),
        ("trigger", json!({"OnBuild": [trigger, "RUN second"]})),
    ];
    configs.into_iter().map(|(name, config)| (name.to_owned(), config)).collect()
}

impl Maker {
    fn line(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn file(&mut self) {
        if self.numbers.one_in(8) {
            self.line("# syntax = docker/dockerfile:1");
        }
        if self.escape == '`' || self.numbers.one_in(12) {
            let directive = format!("#{}escape = {}", self.numbers.pick(&["", " "]), self.escape);
            self.line(&directive);
        }
        if self.numbers.one_in(5) {
            self.line("# a comment, escape=x");
        }
        for index in 0..self.numbers.below(4) {
            let name = match self.numbers.below(6) {
                0 => self
                    .numbers
                    .pick(&["TARGETARCH", "A", "SOURCE_DATE_EPOCH", "BUILDARCH"])
                    .to_owned(),
                _ => format!("G{index}"),
            };
            let value = match &*name {
                "SOURCE_DATE_EPOCH" => "=1600000000".to_owned(),
                _ if self.numbers.one_in(3) => String::new(),
                _ => format!("={}", self.value()),
            };
            let line = format!("{} {name}{value}", self.case("ARG"));
            self.line(&line);
        }
        let image = self.numbers.one_in(4);
        if image {
            self.line("ARG IMAGE=env");
        }
        for _ in 0..1 + self.numbers.below(4) {
            self.stage(image);
        }
    }

    /// The word for an instruction, in some case.
    fn case(&mut self, word: &str) -> String {
        match self.numbers.below(12) {
            0 => word.to_lowercase(),
            1 => {
                let alternate = |(index, c): (usize, char)| {
                    if index % 2 == 0 { c } else { c.to_ascii_lowercase() }
                };
                word.chars().enumerate().map(alternate).collect()
            }
            _ => word.to_owned(),
        }
    }

    fn stage(&mut self, image: bool) {
        let index = self.stages.len();
        let earlier: Vec<String> = self.stages.iter().flatten().cloned().collect();
        let base = match self.numbers.below(10) {
            0 | 1 => "scratch".to_owned(),
            2..=4 if !earlier.is_empty() => earlier[self.numbers.below(earlier.len())].clone(),
            5 if image => {
                self.numbers.pick(&["$IMAGE", "${IMAGE:-x}", "${IMAGE}", "\"$IMAGE\""]).to_owned()
            }
            _ => self.numbers.pick(IMAGES).to_owned(),
        };
        let mut line = self.case("FROM");
        if self.numbers.one_in(4) {
            let platform = self.numbers.pick(&[
                "$BUILDPLATFORM",
                "$TARGETPLATFORM",
                "linux/arm64",
                "linux/arm/v6",
                "linux/arm64/v8",
                "linux/s390x",
                "${BUILDPLATFORM:-linux/386}",
                "linux/amd64/v2",
            ]);
            let _ = write!(line, " --platform={platform}");
        }
        let _ = write!(line, " {base}");
        let name = (!self.numbers.one_in(4)).then(|| {
            let names = ["build", "base", "s.t_1", "dev", "final-x"];
            format!(
                "{}{}",
                self.numbers.pick(&names),
                if self.numbers.one_in(5) { String::new() } else { index.to_string() }
            )
        });
        if let Some(name) = &name {
            let shown = if self.numbers.one_in(6) { name.to_uppercase() } else { name.clone() };
            let _ = write!(line, " {} {shown}", self.numbers.pick(&["AS", "as", "As"]));
        }
        self.line(&line);
        self.stages.push(name);
        for _ in 0..1 + self.numbers.below(8) {
            self.instruction();
        }
    }

    fn instruction(&mut self) {
        match self.numbers.below(40) {
            0..=11 => self.run("RUN"),
            12..=18 => self.copy("COPY"),
            19 | 20 => self.add("ADD"),
            21..=24 => self.env(),
            25..=27 => self.arg(),
            28..=30 => {
                let line = format!("{} {}", self.case("WORKDIR"), self.path());
                self.line(&line);
            }
            31 | 32 => {
                let user = self.numbers.pick(&[
                    "app",
                    "1000:1000",
                    "root",
                    "0",
                    "a:b",
                    "$A",
                    "\"app\"",
                    "1000:",
                    "user name",
                ]);
                let line = format!("{} {user}", self.case("USER"));
                self.line(&line);
            }
            33 => self.line(r#"SHELL ["/bin/sh", "-e\u0075", "-c"]"#),
            34 => self.on_build(),
            35 => {
                let line = self.numbers.pick(&[
                    "LABEL a=b \"c d\"=$A",
                    "LABEL a b c",
                    "EXPOSE 80 443/tcp",
                    "VOLUME /data \"/b\"",
                    "VOLUME [\"/a b\"]",
                    "STOPSIGNAL SIGTERM",
                    "CMD [\"a\", \"b\"]",
                    "CMD a $b",
                    "ENTRYPOINT exec a",
                    "HEALTHCHECK NONE",
                    "HEALTHCHECK --interval=5s --retries=3 CMD curl x",
                    "MAINTAINER me <a@b>",
                ]);
                self.line(line);
            }
            36 => self.line(""),
            37 => self.line("# a comment"),
            _ => self.run("RUN"),
        }
    }

    /// A word without blanks outside quotes, which may have variables.
    fn word(&mut self) -> String {
        let mut word = String::new();
        for _ in 0..1 + self.numbers.below(3) {
            let piece = self.piece(2);
            word.push_str(&piece);
        }
        word
    }

    fn piece(&mut self, depth: usize) -> String {
        let escape = self.escape;
        match self.numbers.below(14) {
            0..=4 => self.literal(),
            5 | 6 => format!("${}", self.numbers.pick(VARIABLES)),
            7 if depth > 0 => format!("\"{}\"", self.quoted(depth)),
            8 => format!("'{}'", self.numbers.pick(&["a b", "$A", "x\\y", "\"", "\\*", ""])),
            9 => format!("{escape}{}", self.numbers.pick(&["$", "a", "\"", "'", " ", "\\", "`"])),
            10..=12 if depth > 0 => self.expansion(depth),
            _ => format!("${{{}}}", self.numbers.pick(VARIABLES)),
        }
    }

    fn literal(&mut self) -> String {
        self.numbers.pick(LITERALS).to_owned()
    }

    fn quoted(&mut self, depth: usize) -> String {
        let escape = self.escape;
        match self.numbers.below(6) {
            0 => "a b".to_owned(),
            1 => format!("{escape}\" {escape}$ {escape}x {escape}{escape}"),
            2 => format!("$A {}", self.numbers.pick(LITERALS)),
            3 => self.expansion(depth - 1),
            4 => "it's".to_owned(),
            _ => self.literal(),
        }
    }

    fn expansion(&mut self, depth: usize) -> String {
        let name = self.numbers.pick(VARIABLES);
        let depth = depth.saturating_sub(1);
        match self.numbers.below(10) {
            0..=3 => {
                let modifier = self.numbers.pick(&[":-", "-", ":+", "+"]);
                format!("${{{name}{modifier}{}}}", self.piece(depth))
            }
            4 => format!("${{{}:?gone}}", self.numbers.pick(&["PATH", "PATH", "PATH", "A"])),
            5..=7 => {
                let modifier = self.numbers.pick(&["#", "##", "%", "%%"]);
                format!("${{{name}{modifier}{}}}", self.pattern(depth))
            }
            _ => {
                let all = self.numbers.pick(&["/", "//"]);
                let replacement = match self.numbers.below(8) {
                    0 => "\\/".to_owned(),
                    1 => "$$0".to_owned(),
                    2 => String::new(),
                    3 => "\\$1".to_owned(),
                    _ => self.piece(depth),
                };
                format!("${{{name}{all}{}/{replacement}}}", self.pattern(depth))
            }
        }
    }

    fn pattern(&mut self, depth: usize) -> String {
        let mut pattern = String::new();
        for _ in 0..1 + self.numbers.below(3) {
            let piece = match self.numbers.below(12) {
                0..=2 => "*".to_owned(),
                3 => "?".to_owned(),
                4 => self.numbers.pick(&["\\*", "\\?", "\\\\", "\\/", "\\}"]).to_owned(),
                5 if depth > 0 => format!("${}", self.numbers.pick(VARIABLES)),
                6 => self
                    .numbers
                    .pick(&["'a'", "\"a\"", "'*'", "'x\\*'", "\"\\*\"", "\"\\a\""])
                    .to_owned(),
                7 => self.numbers.pick(&["[", "(", "+", ".", "^", "|"]).to_owned(),
                _ => self.numbers.pick(&["a", "b", "X", "/", "usr", "é", "l"]).replace('/', "\\/"),
            };
            pattern.push_str(&piece);
        }
        pattern
    }

    /// A value behind an equals sign.
    fn value(&mut self) -> String {
        if self.numbers.one_in(10) { String::new() } else { self.word() }
    }

    fn path(&mut self) -> String {
        match self.numbers.below(16) {
            0 => ".".to_owned(),
            1 => "./".to_owned(),
            2 => "/".to_owned(),
            3 => "..".to_owned(),
            4 => "/a//b/../c/".to_owned(),
            5 => "sub/dir/".to_owned(),
            6 => "/d/.".to_owned(),
            7 => "d/.".to_owned(),
            8 => "$A".to_owned(),
            9 => "/opt/${B:-b}".to_owned(),
            10 => "a\"b\"".to_owned(),
            11 => self.word(),
            _ => self.numbers.pick(&["/app", "work", "/usr/local/bin/", "/x"]).to_owned(),
        }
    }

    fn env(&mut self) {
        let mut line = self.case("ENV");
        if self.numbers.one_in(8) {
            let _ = write!(line, " {} {}  {}", self.name(), self.word(), self.literal());
        } else {
            for _ in 0..1 + self.numbers.below(3) {
                let (name, value) = (self.name(), self.value());
                let _ = write!(line, " {name}={value}");
                if self.numbers.one_in(8) {
                    let _ = write!(line, " {}\n  ", self.escape);
                }
            }
        }
        self.line(&line);
    }

    fn name(&mut self) -> String {
        match self.numbers.below(12) {
            0 => "PATH".to_owned(),
            1 => "$A".to_owned() + "_n",
            2 => "SSH_AUTH_SOCK".to_owned(),
            _ => self.numbers.pick(&["A", "B", "C", "D", "_x1", "HOME"]).to_owned(),
        }
    }

    fn arg(&mut self) {
        let mut line = self.case("ARG");
        for _ in 0..1 + self.numbers.below(3) {
            let name = match self.numbers.below(3) {
                0 => self.numbers.pick(&[
                    "A",
                    "B",
                    "C",
                    "G0",
                    "G1",
                    "G2",
                    "HTTP_PROXY",
                    "BUILDKIT_SBOM_SCAN_STAGE",
                ]),
                _ => self.numbers.pick(VARIABLES),
            };
            let _ = match self.numbers.one_in(2) {
                true => write!(line, " {name}"),
                false => write!(line, " {name}={}", self.value()),
            };
        }
        self.line(&line);
    }

    fn on_build(&mut self) {
        let mark = self.text.len();
        match self.numbers.below(6) {
            0 => self.copy("ONBUILD COPY"),
            1 => self.line("ONBUILD ENV T=$A"),
            2 => self.line("onbuild workdir on/build"),
            3 => self.line("ONBUILD ARG A=on"),
            _ => self.run("ONBUILD RUN"),
        }
        // A trigger that takes files from elsewhere is an error in old releases.
        if self.old && self.text[mark..].contains(" --") {
            self.text.truncate(mark);
        }
    }

    /// What files are taken from.
    fn source(&mut self, numbers: bool) -> String {
        let earlier: Vec<String> =
            self.stages[..self.stages.len() - 1].iter().flatten().cloned().collect();
        match self.numbers.below(8) {
            0 if numbers && self.stages.len() > 1 => {
                self.numbers.below(self.stages.len() - 1).to_string()
            }
            0..=4 if !earlier.is_empty() => {
                let name = earlier[self.numbers.below(earlier.len())].clone();
                if self.numbers.one_in(6) { name.to_uppercase() } else { name }
            }
            5 => "scratch".to_owned(),
            _ => self.numbers.pick(IMAGES).to_owned(),
        }
    }

    fn owner(&mut self) -> &'static str {
        self.numbers.pick(&[
            "1000",
            "1000:1000",
            "app:staff",
            "root",
            "0:0",
            "app",
            ":5",
            "+5:00012",
            "app:",
            "$A:1",
        ])
    }

    fn flags_of_files(&mut self) -> String {
        let mut flags = String::new();
        let link = self.numbers.one_in(4);
        if link {
            flags.push_str(
                self.numbers.pick(
                    &[" --link", " --link=true", " --LINK"]
                        .map(|f| if f == " --LINK" { " --link=TRUE" } else { f }),
                ),
            );
        }
        if self.numbers.one_in(4) {
            let owner = if link { self.numbers.pick(&["1", "1:2", "0"]) } else { self.owner() };
            let _ = write!(flags, " --chown={owner}");
        }
        if self.numbers.one_in(5) {
            let modes: &[&str] = if self.old {
                &["755", "0644", "0", "7777", "\"700\""]
            } else {
                &["755", "u+x", "a=rX,g-w", "0"]
            };
            let _ = write!(flags, " --chmod={}", self.numbers.pick(modes));
        }
        if !self.old && self.numbers.one_in(6) {
            flags.push_str(" --exclude=*.md --exclude=$A/x");
        }
        flags
    }

    fn sources(&mut self) -> Vec<String> {
        (0..1 + self.numbers.below(4))
            .map(|_| match self.numbers.below(10) {
                0 => "*.txt".to_owned(),
                1 => "a/b/../c/".to_owned(),
                2 => "/abs/file".to_owned(),
                3 => ".".to_owned(),
                4 => "d/./e".to_owned(),
                5 => "$A".to_owned() + "x",
                6 => "'q'".to_owned(),
                7 => self.word(),
                _ => self.numbers.pick(&["go.mod", "go.sum", "src", "Makefile"]).to_owned(),
            })
            .collect()
    }

    /// Ends an instruction with its paths, some of which may be heredocs.
    fn paths(&mut self, mut line: String, mut sources: Vec<String>) {
        let mut texts = Vec::new();
        if self.numbers.one_in(5) {
            for name in ["EOF", "file.txt"].into_iter().take(1 + self.numbers.below(2)) {
                let (word, end) = self.heredoc(name);
                sources.push(word);
                texts.push(end);
            }
        }
        let dest = self.path();
        if texts.is_empty() && self.numbers.one_in(6) {
            let all: Vec<String> = sources.into_iter().chain([dest]).collect();
            let _ = write!(line, " {}", serde_json::to_string(&all).unwrap_or_default());
        } else {
            let _ = write!(line, " {} {dest}", sources.join(self.numbers.pick(&[" ", "  ", "\t"])));
        }
        self.line(&line);
        self.text.push_str(&texts.concat());
    }

    /// Returns the word that starts a heredoc, and its text with the end.
    fn heredoc(&mut self, name: &str) -> (String, String) {
        let chomp = self.numbers.one_in(4);
        let dash = if chomp { "-" } else { "" };
        let word = match self.numbers.below(5) {
            0 => format!("<<{dash}\"{name}\""),
            1 => format!("<<{dash}'{name}'"),
            _ => format!("<<{dash}{name}"),
        };
        let mut text = String::new();
        for _ in 0..self.numbers.below(4) {
            text.push_str(self.numbers.pick(&[
                "echo $A ${B:-b}\n",
                "\ttab\n",
                "\n",
                "it's \"quoted\" \\$A \\n\n",
                "# no comment\n",
                "a \\\n",
                "é€\n",
                "  <<X\n",
                "${C%%b*}\n",
            ]));
        }
        let _ = writeln!(text, "{}{name}", if chomp { "\t" } else { "" });
        (word, text)
    }

    fn copy(&mut self, word: &str) {
        let mut line = self.case(word);
        let flags = self.flags_of_files();
        line.push_str(&flags);
        if self.numbers.one_in(2) && self.stages.len() > 1 || self.numbers.one_in(8) {
            let _ = write!(line, " --from={}", self.source(true));
        }
        if !self.old && self.numbers.one_in(6) {
            line.push_str(" --parents");
        }
        let sources = self.sources();
        self.paths(line, sources);
    }

    fn add(&mut self, word: &str) {
        let mut line = self.case(word);
        let flags = self.flags_of_files();
        line.push_str(&flags);
        let mut sources = self.sources();
        match self.numbers.below(6) {
            0 => sources.push("https://example.com/a/b%20c.tar.gz?x=y#z".to_owned()),
            1 => sources.push("https://example.com/".to_owned()),
            2 => sources.push("https://github.com/a/b.git#v1:sub".to_owned()),
            3 => sources.push("git@github.com:a/b.git".to_owned()),
            4 => {
                let sum = "0".repeat(64);
                let _ = write!(line, " --checksum=sha256:{sum}");
                sources = vec!["https://example.com/file".to_owned()];
            }
            _ => {}
        }
        if !self.old && self.numbers.one_in(4) {
            let _ = write!(line, " --unpack={}", self.numbers.pick(&["true", "false"]));
        }
        if self.numbers.one_in(8) {
            line.push_str(" --keep-git-dir=true");
        }
        self.paths(line, sources);
    }

    fn run(&mut self, word: &str) {
        let mut line = self.case(word);
        let mounts = if self.numbers.one_in(3) { 1 + self.numbers.below(4) } else { 0 };
        for _ in 0..mounts {
            let mount = self.mount();
            let _ = write!(line, " --mount={mount}");
            if self.numbers.one_in(6) {
                let _ = write!(line, " {}\n   ", self.escape);
            }
        }
        if self.numbers.one_in(10) {
            let _ = write!(line, " --network={}", self.numbers.pick(&["none", "host", "default"]));
        }
        if !self.old && self.numbers.one_in(12) {
            let _ = write!(line, " --security={}", self.numbers.pick(&["insecure", "sandbox"]));
        }
        match self.numbers.below(12) {
            0 => line.push_str(r#" ["/bin/sh", "-c", "a\u00e9 \"b\" <&>"]"#),
            1 => line.push_str(r#" [ "a" , "b" ] "#),
            2 => line.push_str(r#" ["a"] && b"#),
            3 => {
                let (word, text) = self.heredoc("EOF");
                let _ = write!(line, " {word}");
                let script = if self.numbers.one_in(3) { "#!/usr/bin/env python\n" } else { "" };
                self.line(&line);
                self.text.push_str(script);
                self.text.push_str(&text);
                return;
            }
            4 => {
                let (first, text) = self.heredoc("ONE");
                let (second, more) = self.heredoc("TWO");
                let _ = write!(line, " cat {first} 3{second} > x");
                self.line(&line);
                self.text.push_str(&text);
                self.text.push_str(&more);
                return;
            }
            5 | 6 => {
                let escape = self.escape;
                let rest = self.numbers.pick(&["    # a comment\n", "\n", "", "  \t\n"]);
                let _ = write!(
                    line,
                    " echo one &&  {escape}  \n{rest}   echo $A 'two' {escape}\n\t&& three"
                );
            }
            7 => {
                let _ = write!(line, " {}", self.word());
            }
            _ => line.push_str(self.numbers.pick(&[
                " make  -j$(nproc)",
                " echo \"<$A> & 'b'\" > /x",
                " a \\$B | tee é",
                " true",
                " cat <a >b",
                " x <<< y",
                " printf '%s\\n' a",
            ])),
        }
        self.line(&line);
    }

    fn mount(&mut self) -> String {
        let target = self.mount_target();
        let mut fields = match self.numbers.below(12) {
            0..=2 => {
                let mut fields =
                    vec![self.numbers.pick(&["type=bind", "TYPE=bind", "type=Bind"]).to_owned()];
                fields.push(format!("target={target}"));
                if self.numbers.one_in(2) {
                    fields.push(format!("from={}", self.source(false)));
                }
                if self.numbers.one_in(2) {
                    fields
                        .push(format!("source={}", self.numbers.pick(&["/src", "a/$A", ".", "/"])));
                }
                if self.numbers.one_in(3) {
                    fields.push(
                        self.numbers
                            .pick(&["rw", "ro", "readwrite=true", "readonly=false"])
                            .to_owned(),
                    );
                }
                fields
            }
            3 => vec![format!("target={target}")],
            4..=7 => {
                let mut fields = vec!["type=cache".to_owned(), format!("target={target}")];
                let more = [
                    "id=name",
                    "id=/c",
                    "id=$A",
                    "sharing=locked",
                    "sharing=private",
                    "sharing=shared",
                    "uid=1000",
                    "gid=5",
                    "mode=0700",
                    "mode=1777",
                    "ro",
                    "source=/x",
                ];
                for _ in 0..self.numbers.below(4) {
                    fields.push(self.numbers.pick(&more).to_owned());
                }
                if self.numbers.one_in(4) {
                    fields.push(format!("from={}", self.source(false)));
                }
                fields
            }
            8 => {
                let mut fields = vec!["type=tmpfs".to_owned(), format!("target={target}")];
                if self.numbers.one_in(2) {
                    fields.push(format!(
                        "size={}",
                        self.numbers.pick(&["1024", "1k", "1.5MiB", "2 g", "0"])
                    ));
                }
                fields
            }
            9 | 10 => {
                let mut fields = vec![
                    "type=secret".to_owned(),
                    self.numbers.pick(&["id=token", "src=/a/b", "id=$B.c"]).to_owned(),
                ];
                let more = [
                    "target=/run/x",
                    "target=rel",
                    "mode=0440",
                    "uid=1",
                    "required",
                    "required=false",
                    "env=TOKEN",
                ];
                for _ in 0..self.numbers.below(4) {
                    fields.push(self.numbers.pick(&more).to_owned());
                }
                fields
            }
            _ => {
                let mut fields = vec!["type=ssh".to_owned()];
                let more = ["id=git", "target=/ssh", "mode=0666", "gid=7", "required=true"];
                for _ in 0..self.numbers.below(3) {
                    fields.push(self.numbers.pick(&more).to_owned());
                }
                fields
            }
        };
        if self.numbers.one_in(12) {
            fields.insert(0, String::from("dst=/first"));
        }
        fields.join(",")
    }

    fn mount_target(&mut self) -> &'static str {
        self.numbers.pick(&[
            "/c",
            "/root/.cache",
            "c",
            "/c/",
            "/a//b",
            "../x",
            "/opt/$A",
            ".",
            "/dev/shm",
            "/z",
            "é",
            "./sub/",
        ])
    }

    fn opts(&mut self) -> BTreeMap<String, String> {
        let mut opts = BTreeMap::new();
        let mut set = |key: &str, value: &str| drop(opts.insert(key.to_owned(), value.to_owned()));
        if self.numbers.one_in(2) {
            set(
                "platform",
                self.numbers.pick(&[
                    "linux/amd64",
                    "linux/arm64",
                    "linux/arm/v7",
                    "linux/arm/v6",
                    "linux/arm64/v8",
                    "linux/amd64/v2",
                ]),
            );
        }
        for name in ["A", "G0", "TARGETARCH", "HTTP_PROXY", "C"] {
            if self.numbers.one_in(5) {
                set(
                    &format!("build-arg:{name}"),
                    self.numbers.pick(&["arg", "", "a b", "$B", "aXbXc/usr/lib"]),
                );
            }
        }
        let named: Vec<String> = self.stages.iter().flatten().cloned().collect();
        if self.numbers.one_in(4) && !named.is_empty() {
            let name = named[self.numbers.below(named.len())].clone();
            set("target", &if self.numbers.one_in(4) { name.to_uppercase() } else { name });
        }
        for (key, value) in [
            ("build-arg:SOURCE_DATE_EPOCH", "1700000000"),
            ("build-arg:BUILDKIT_CACHE_MOUNT_NS", "ns"),
            ("build-arg:BUILDKIT_SANDBOX_HOSTNAME", "box"),
            ("hostname", "host"),
            ("force-network-mode", "none"),
            ("force-network-mode", "host"),
            ("add-hosts", "DB=10.0.0.1,other=::1"),
            ("ulimit", "nofile=1024:4096,core=-1"),
            ("shm-size", "67108864"),
            ("cgroup-parent", "/group"),
            ("no-cache", ""),
            ("context:env", "docker-image://user"),
            ("context:busybox:1", "local:dir"),
            ("context:alpine", "docker-image://scratch"),
            ("context:dir", "https://github.com/a/b.git"),
            ("context:base0", "docker-image://env"),
        ] {
            if self.numbers.one_in(16) {
                set(key, value);
            }
        }
        opts
    }
}
