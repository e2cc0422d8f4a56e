//! `COPY` and `ADD` (`dockerfile2llb/convert_copy.go`).

use llb::op::{Action, CopyAction, FileAction, FileOp, InputIndex, Kind, MergeOp, MkfileAction};

use super::graph::{Inputs, Vertex};
use super::owner::{is_by_name, owner};
use super::sources::SlotIndex;
use super::stage::{Working, one_action};
use super::{Converter, Origin};
use crate::error::Reason;
use crate::expand::Expander;
use crate::file::Located;
use crate::instruction::{Command, Copy};
use crate::path;
use crate::remote::{Source, classify};
use crate::text::decode;
use crate::value::{is_symbolic_mode, unsigned};

/// Permission bits of the files of heredocs; one more was set before 1.6.
const TEXT_MODE: i32 = 0o644;
const OLD_TEXT_MODE: i32 = 0o664;

/// One source: its files, and what is copied from them.
struct Part {
    files: Option<Vertex>,
    copy: CopyAction,
}

impl Converter<'_> {
    pub(super) fn copy(
        &mut self,
        stage: &mut Working,
        command: &Located<Command>,
        copy: &Copy,
        sources: &[SlotIndex],
    ) -> Result<(), Reason> {
        let frontend = self.options.frontend;
        let chown = self.word(stage, &copy.chown)?;
        let chmod = match frontend.since(10) {
            true => self.word(stage, &copy.chmod)?,
            false => copy.chmod.clone(),
        };
        let checksum = self.word(stage, &copy.checksum)?;
        let paths = copy.paths.iter().map(|path| self.word(stage, path));
        let paths: Vec<String> = paths.collect::<Result<_, _>>()?;
        let dest = self.word(stage, &copy.dest)?;
        let mut texts = Vec::with_capacity(copy.texts.len());
        for text in &copy.texts {
            let data = match text.expand {
                true => {
                    let expander = Expander::for_texts(frontend);
                    let data = decode(&text.data);
                    expander.expand(&data, &stage.state.env, &mut self.budget)?.into_bytes()
                }
                false => text.data.clone(),
            };
            texts.push((&*text.name, data));
        }
        let files = match (copy.from.is_empty(), sources) {
            (true, _) => Some(self.main_context()),
            (false, [source]) => {
                stage.needs(*source);
                self.files(*source, &copy.from, paths.iter().map(String::as_str))?
            }
            // Its source was refused before.
            (false, _) => return Ok(()),
        };

        let mut plain = CopyAction {
            dest: destination(&stage.state.dir, &dest),
            create_dest_path: true,
            timestamp: -1,
            exclude_patterns: copy.exclude.clone(),
            ..CopyAction::default()
        };
        (plain.mode, plain.mode_str) = mode(&chmod, frontend.since(14))?;
        if copy.link && frontend.since(28) && is_by_name(&chown, frontend) {
            return Err(Reason::value(
                &chown,
                "user and group names can't be resolved when used with --link",
            ));
        }
        if !checksum.is_empty() {
            check_checksum(&paths, frontend)?;
        }
        // Each source repeats these.
        let count = paths.len() + texts.len();
        let exclude: usize = plain.exclude_patterns.iter().map(String::len).sum();
        let one = plain.dest.len() + plain.mode_str.len() + chown.len() + exclude + 256;
        self.budget.grow(count.saturating_mul(one))?;
        let mut parts = Vec::with_capacity(count);
        for path in &paths {
            parts.push(self.part(copy, path, &plain, files)?);
        }
        for (name, data) in texts {
            parts.push(self.text(stage, command, name, data, &plain)?);
        }
        self.join(stage, command, copy.link && chmod.is_empty(), &chown, parts)
    }

    /// Returns what a source becomes.
    fn part(
        &mut self,
        copy: &Copy,
        source: &str,
        plain: &CopyAction,
        files: Option<Vertex>,
    ) -> Result<Part, Reason> {
        let plain = plain.clone();
        match classify(source, self.options.frontend) {
            Source::Refused => {
                Err(Reason::value(source, "the repository has options that there are not"))
            }
            Source::Git | Source::Http { .. } if !copy.is_add => {
                Err(Reason::value(source, "a source of COPY can be neither a URL nor a repository"))
            }
            Source::Git => {
                let keep = copy.keep_git_dir.unwrap_or_default();
                let files = Some(self.graph.source(
                    format!("git:{source} {keep} {}", copy.checksum),
                    &format!("git://{source}"),
                ));
                Ok(Part { files, copy: CopyAction { src: "/".to_owned(), ..plain } })
            }
            Source::Http { name } => {
                let files =
                    Some(self.graph.source(format!("http:{source} {}", copy.checksum), source));
                let src = absolute(&name);
                let attempt_unpack_docker_compatibility = copy.unpack.unwrap_or_default();
                Ok(Part {
                    files,
                    copy: CopyAction { src, attempt_unpack_docker_compatibility, ..plain },
                })
            }
            Source::Path => {
                let (source, include, required) = match copy.parents {
                    true => self.parents(source),
                    false => (source.to_owned(), Vec::new(), Vec::new()),
                };
                let copy = CopyAction {
                    src: absolute(&path::behind("/", &source)),
                    follow_symlink: true,
                    dir_copy_contents: true,
                    attempt_unpack_docker_compatibility: copy.unpack.unwrap_or(copy.is_add),
                    allow_wildcard: true,
                    allow_empty_wildcard: true,
                    include_patterns: include,
                    required_paths: required,
                    ..plain
                };
                Ok(Part { files, copy })
            }
        }
    }

    /// Splits the source of `--parents` at `/./`. Returns the directory, the patterns below it, and the paths that must
    /// exist.
    fn parents(&self, source: &str) -> (String, Vec<String>, Vec<String>) {
        let (directory, pattern) = source.split_once("/./").unwrap_or(("/", source));
        let pattern = path::behind("/", pattern);
        let include = vec![pattern.strip_prefix('/').unwrap_or(&pattern).to_owned()];
        let exact = !has_wildcard(directory) && !has_wildcard(&pattern);
        let required = path::behind("/", &path::join(&[directory, &pattern]));
        let required = (exact && self.options.frontend.since(20)).then_some(required);
        (directory.to_owned(), include, required.into_iter().collect())
    }

    /// Makes the file of a heredoc.
    fn text(
        &mut self,
        stage: &Working,
        command: &Located<Command>,
        name: &str,
        data: Vec<u8>,
        plain: &CopyAction,
    ) -> Result<Part, Reason> {
        let mode = if self.options.frontend.since(6) { TEXT_MODE } else { OLD_TEXT_MODE };
        let file = self.inline_file(stage, command, name, data, mode)?;
        Ok(Part { files: Some(file), copy: CopyAction { src: absolute(name), ..plain.clone() } })
    }

    /// Makes a file that is in the Dockerfile, on an empty file system.
    pub(super) fn inline_file(
        &mut self,
        stage: &Working,
        command: &Located<Command>,
        name: &str,
        data: Vec<u8>,
        mode: i32,
    ) -> Result<Vertex, Reason> {
        let path = absolute(name);
        let mkfile = MkfileAction { path, mode, data, owner: None, timestamp: -1 };
        let kind = one_action(-1, Action::Mkfile(mkfile));
        let origin = Origin::of(command, stage.state.unknown_base.as_deref());
        self.add(kind, Inputs::default(), None, &origin)
    }

    /// Makes one operation of all parts, and with `--link` another that merges.
    fn join(
        &mut self,
        stage: &mut Working,
        command: &Located<Command>,
        link: bool,
        chown: &str,
        parts: Vec<Part>,
    ) -> Result<(), Reason> {
        let mut inputs = Inputs::default();
        let base = inputs.index(stage.state.files.filter(|_| !link));
        let owner = (!chown.is_empty()).then(|| owner(chown, base, self.options.frontend));
        let secondary: Vec<i64> = parts.iter().map(|part| inputs.index(part.files)).collect();
        let (count, last) = (inputs.len(), parts.len().saturating_sub(1));
        let action = |(index, (part, secondary_input)): (usize, (Part, i64))| FileAction {
            // An action before is numbered behind the inputs.
            input: match index {
                0 => base,
                index => i64::try_from(count + index - 1).unwrap_or(i64::MAX),
            },
            secondary_input,
            output: if index == last { 0 } else { -1 },
            action: Action::Copy(CopyAction { owner: owner.clone(), ..part.copy }),
        };
        let actions = parts.into_iter().zip(secondary).enumerate().map(action).collect();
        let unknown_base = stage.state.unknown_base.clone();
        let origin = Origin::of(command, unknown_base.as_deref());
        let copied = self.add(Kind::File(FileOp { actions }), inputs, None, &origin)?;
        stage.state.files = Some(match stage.state.files.filter(|_| link) {
            None => copied,
            Some(below) => {
                // The two are numbered apart, even if they are one.
                let merge =
                    MergeOp { inputs: vec![InputIndex { input: 0 }, InputIndex { input: 1 }] };
                let origin = Origin::of(command, unknown_base.as_deref());
                self.add(Kind::Merge(merge), Inputs::of([below, copied]), None, &origin)?
            }
        });
        Ok(())
    }
}

/// Returns where the copies go (`pathRelativeToWorkingDir`). A slash, or slash and dot, at the end stays.
fn destination(dir: &str, dest: &str) -> String {
    let dest = match dest {
        _ if dest.starts_with('/') => dest.to_owned(),
        "" | "." => path::keep_end("./", path::join(&[dir, "."])),
        _ => path::keep_end(dest, path::join(&[dir, dest])),
    };
    path::keep_end(&dest, path::clean(&dest))
}

/// Returns an absolute, clean path.
fn absolute(path: &str) -> String {
    path::join(&["/", &path::clean(path)])
}

/// Reads `--chmod`: a number in octal, or symbols where the release knows them.
fn mode(chmod: &str, symbols: bool) -> Result<(i32, String), Reason> {
    if chmod.is_empty() {
        return Ok((-1, String::new()));
    }
    match unsigned(chmod, 8) {
        Some(mode @ 0..=0o7777) => Ok((mode.cast_signed(), String::new())),
        None if symbols && is_symbolic_mode(chmod) => Ok((0, chmod.to_owned())),
        _ => Err(Reason::value(
            chmod,
            "invalid chmod parameter. it should be octal string and between 0 and 07777",
        )),
    }
}

fn check_checksum(paths: &[String], frontend: crate::Frontend) -> Result<(), Reason> {
    let [path] = paths else {
        let list = paths.join(" ");
        return Err(Reason::value(&list, "checksum can't be specified for multiple sources"));
    };
    match classify(path, frontend) {
        Source::Http { .. } => Ok(()),
        Source::Git if frontend.since(15) => Ok(()),
        _ => Err(Reason::value(path, "checksum requires HTTP(S) or Git sources")),
    }
}

fn has_wildcard(path: &str) -> bool {
    let mut chars = path.chars();
    while let Some(c) = chars.next() {
        match c {
            '*' | '?' | '[' => return true,
            '\\' => drop(chars.next()),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_keep_their_ends() {
        for (dir, dest, expected) in [
            ("/w", ".", "/w/"),
            ("/w", "", "/w/"),
            ("/w", "./", "/w/"),
            ("/w", "..", "/"),
            ("/w//x", "a/../b", "/w/x/b"),
            ("/", "a/", "/a/"),
            ("/w", "/d/.", "/d/."),
            ("/w", "/d//e/", "/d/e/"),
            ("/", "/", "/"),
        ] {
            assert_eq!(destination(dir, dest), expected, "{dir} {dest}");
        }
    }
}
