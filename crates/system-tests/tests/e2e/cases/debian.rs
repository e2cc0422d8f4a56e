//! A base of thousands of files.

use crate::case::{Case, Context, Export, Keys};

pub(super) const CASES: &[Case] = &[Case {
    name: "debian",
    dockerfile: || DEBIAN.into(),
    context,
    edit: |context| drop(context.file("list", "edited\n")),
    arguments: &[],
    export: Export::MAX,
    keys: Keys::Provenance,
}];

const DEBIAN: &str = r#"
FROM {registry}/debian
RUN groupadd --system app && useradd --system --gid app --create-home app
RUN rm -rf /usr/share/doc /var/lib/apt/lists /usr/share/locale && mkdir /usr/share/doc
COPY list /srv/list
RUN cp -a /etc /srv/etc && find /usr/bin -type f -newer /srv/list > /srv/newer; chmod -R go-w /srv
USER app
RUN cp -r /usr/share/zoneinfo ~/zones && ln ~/zones/UTC ~/utc
"#;

fn context(context: &Context) {
    context.file("list", "list\n");
}
