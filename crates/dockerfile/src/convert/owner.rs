//! Owners of files.

use llb::op::{ChownOpt, NamedUser, UserOpt};

use crate::frontend::Frontend;

/// Reads `user[:group]` (`WithUser` in `client/llb/fileop.go`). Names are looked up in `base`, an index of an input.
pub(super) fn owner(text: &str, base: i64, frontend: Frontend) -> ChownOpt {
    let (user, group) = text.split_once(':').map_or((text, None), |(u, g)| (u, Some(g)));
    // Before v0.34 an empty group was group 0.
    let group = group.filter(|group| !group.is_empty() || !frontend.since(28));
    ChownOpt { user: Some(id(user, base)), group: group.map(|group| id(group, base)) }
}

/// Returns whether `user[:group]` has a name in it.
pub(super) fn is_by_name(text: &str, frontend: Frontend) -> bool {
    let owner = owner(text, 0, frontend);
    [owner.user, owner.group].iter().any(|user| matches!(user, Some(UserOpt::ByName(_))))
}

fn id(text: &str, base: i64) -> UserOpt {
    match crate::value::signed(text).and_then(|id| i32::try_from(id).ok()) {
        _ if matches!(text, "root" | "") => UserOpt::ById(0),
        Some(id) => UserOpt::ById(id.cast_unsigned()),
        None => UserOpt::ByName(NamedUser { name: text.to_owned(), input: base }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_names_or_numbers() {
        let name = |name: &str| UserOpt::ByName(NamedUser { name: name.to_owned(), input: 3 });
        let table = [
            ("a", name("a"), None),
            ("0", UserOpt::ById(0), None),
            ("root:b", UserOpt::ById(0), Some(name("b"))),
            ("+5:00012", UserOpt::ById(5), Some(UserOpt::ById(12))),
            ("-1", UserOpt::ById(u32::MAX), None),
            ("4294967295", name("4294967295"), None),
            (":7", UserOpt::ById(0), Some(UserOpt::ById(7))),
            ("a:", name("a"), None),
        ];
        for (text, user, group) in table {
            let expected = ChownOpt { user: Some(user), group };
            assert_eq!(owner(text, 3, Frontend::NEWEST), expected, "{text}");
        }
        let old = Frontend::of("0.32.2".parse().unwrap());
        assert_eq!(owner("a:", 3, old).group, Some(UserOpt::ById(0)));
        assert!(is_by_name("1:b", old) && !is_by_name("1:", old));
    }
}
