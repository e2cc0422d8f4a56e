//! Names of steps for people.

use super::op::{Action, FileOp, Kind, Op};

/// Maximum length of a name, in characters.
const LONGEST: usize = 80;

/// Returns a short name of the step in the words of a Dockerfile, such as `RUN make -j2` or `COPY /a /b
/// /dest/`. It is safe for a terminal: one line, no control characters, at most 80 characters.
pub fn step_name(op: &Op) -> String {
    let name = match &op.kind {
        Kind::Exec(exec) => match exec.meta.args.as_slice() {
            [_shell, option, script] if option == "-c" => format!("RUN {script}"),
            args => format!("RUN {}", args.join(" ")),
        },
        Kind::File(file) => file_name(file),
        Kind::Merge(_) => "MERGE".into(),
        Kind::Diff(_) => "DIFF".into(),
        Kind::Build(_) => "BUILD".into(),
        Kind::Passthrough(op) => format!("PASSTHROUGH {}", op.id),
        Kind::Source => "FROM".into(),
        Kind::Return => "RETURN".into(),
        Kind::Unknown => "an operation of an unknown kind".into(),
    };
    shortened(&name)
}

/// Names all actions; copies to the same place, as `COPY a b /dest/` makes, appear as one.
fn file_name(file: &FileOp) -> String {
    let mut name = String::new();
    let mut copying_to = None;
    // Actions that would be cut off anyway are not formatted.
    for action in file.actions.iter().take(LONGEST) {
        let (verb, from, to) = match &action.action {
            Action::Copy(copy) => ("COPY", copy.src.as_str(), Some(copy.dest.as_str())),
            Action::Mkfile(mkfile) => ("MKFILE", mkfile.path.as_str(), None),
            Action::Mkdir(mkdir) => ("MKDIR", mkdir.path.as_str(), None),
            Action::Rm(rm) => ("RM", rm.path.as_str(), None),
            Action::Symlink(link) => ("SYMLINK", link.old_path.as_str(), Some(&*link.new_path)),
            Action::Lost => ("SYMLINK", "?", None),
        };
        match copying_to {
            Some(dest) if verb == "COPY" && to == Some(dest) => {}
            previous => {
                finish(&mut name, previous);
                if !name.is_empty() {
                    name.push_str(", ");
                }
                name.push_str(verb);
            }
        }
        name.push(' ');
        name.push_str(from);
        copying_to = to;
    }
    finish(&mut name, copying_to);
    name
}

fn finish(name: &mut String, to: Option<&str>) {
    if let Some(to) = to {
        name.push(' ');
        name.push_str(to);
    }
}

fn shortened(name: &str) -> String {
    let mut clean = name
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .skip_while(|c| c.is_whitespace())
        .peekable();
    let mut short: String = clean.by_ref().take(LONGEST).collect();
    if clean.peek().is_some() {
        short.pop();
        short.push('…');
    }
    short.truncate(short.trim_end().len());
    short
}
