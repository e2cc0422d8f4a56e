//! A build without a Dockerfile: LLB from a client.

use crate::case::{Case, Context, Export, Keys};

pub(super) const CASES: &[Case] = &[Case {
    name: "llb",
    dockerfile: String::new,
    context,
    edit: |context| drop(context.file("second/b", "edited\n")),
    arguments: &["--local=first={context}/first", "--local=second={context}/second"],
    export: Export::MAX,
    keys: Keys::Definition,
}];

fn context(context: &Context) {
    context.file("first/a", "a\n");
    context.file("first/dir/c", "c\n");
    context.file("second/b", "b\n");
}
