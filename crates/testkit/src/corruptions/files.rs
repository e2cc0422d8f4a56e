//! Files, directories and their modes.

use std::os::unix::fs::{FileExt as _, chown, symlink};

use super::Outcome::{Found, Harmless, InTrees};
use super::*;

pub(super) const ALL: &[Corruption] = &[
    files("cache.db: gone", Found("missing-file"), |root, _| {
        Ok(fs::remove_file(root.join(SOLVER))?)
    }),
    files("cache.db: empty", Found("empty-file"), |root, _| Ok(fs::write(root.join(SOLVER), "")?)),
    files("cache.db: something else", Found("no-database"), |root, _| {
        Ok(fs::write(root.join(SOLVER), vec![b'x'; 1 << 16])?)
    }),
    files("metadata_v2.db: gone", Found("missing-file"), |root, _| {
        Ok(fs::remove_file(root.join(RECORDS))?)
    }),
    files("metadata_v2.db: cut off", Found("cut-database"), |root, _| {
        Ok(File::options().write(true).open(root.join(RECORDS))?.set_len(3 * 4096)?)
    }),
    files("containerdmeta.db: gone", Found("missing-file"), |root, _| {
        Ok(fs::remove_file(root.join(METADATA))?)
    }),
    files("containerdmeta.db: a page", Found("damaged-page"), |root, _| {
        let file = File::options().write(true).open(root.join(METADATA))?;
        Ok(file.write_all_at(&[0xff; 4096], 2 * 4096)?)
    }),
    files("snapshots/metadata.db: gone", Found("missing-file"), |root, _| {
        Ok(fs::remove_file(root.join(SNAPSHOTS))?)
    }),
    files("snapshots/metadata.db: a link", Found("unreadable-file"), |root, _| {
        let path = root.join(SNAPSHOTS);
        fs::rename(&path, root.join("elsewhere"))?;
        Ok(symlink(root.join("elsewhere"), path)?)
    }),
    files("history.db: something else", Found("no-database"), |root, _| {
        Ok(fs::write(root.join("history.db"), vec![b'x'; 1 << 16])?)
    }),
    files("workerid: gone", Found("missing-file"), |root, _| {
        Ok(fs::remove_file(root.join("runc-overlayfs/workerid"))?)
    }),
    files("workerid: another", Found("result-of-unknown-worker"), |root, _| {
        write_anew(&root.join("runc-overlayfs/workerid"), &"y".repeat(25))
    }),
    files("workerid: with a line feed", Found("worker-id"), |root, m| {
        write_anew(&root.join("runc-overlayfs/workerid"), &format!("{}\n", m.state.worker_id))
    }),
    files("blob: gone", Found("blob-without-file"), |root, m| {
        Ok(fs::remove_file(m.blob(root, m.top())?)?)
    }),
    files("blob: longer", Found("blob-file-size"), |root, m| {
        let file = File::options().write(true).open(m.blob(root, m.top())?)?;
        Ok(file.set_len(file.metadata()?.len() + 1)?)
    }),
    files("blob: another byte", Found("blob-digest"), |root, m| {
        let path = m.blob(root, m.top())?;
        let mut bytes = fs::read(&path)?;
        *bytes.get_mut(20).context("a short blob")? ^= 1;
        Ok(fs::write(path, bytes)?)
    }),
    files("blob: a directory", Found("blob-not-a-file"), |root, m| {
        let path = m.blob(root, m.top())?;
        fs::remove_file(&path)?;
        Ok(fs::create_dir(path)?)
    }),
    files("blob: mode 0000", Harmless("root reads it all the same"), |root, m| {
        mode(&m.blob(root, m.top())?, 0)
    }),
    files("blob: of nothing", Found("stray-blob"), |root, m| {
        let path = m.blob(root, m.top())?;
        Ok(fs::write(path.with_file_name("0".repeat(64)), "")?)
    }),
    files("ingest: left", Harmless("the daemon collects it"), |root, _| {
        let ingest = root.join("runc-overlayfs/content/ingest/nothing");
        fs::create_dir_all(&ingest)?;
        Ok(fs::write(ingest.join("ref"), "nothing")?)
    }),
    files("snapshot: directory gone", Found("missing-directory"), |root, m| {
        Ok(fs::remove_dir_all(m.directory(root, m.top())?)?)
    }),
    files("snapshot: a link", Found("foreign-link"), |root, m| {
        let path = m.directory(root, m.top())?;
        fs::rename(&path, root.join("elsewhere"))?;
        Ok(symlink(root.join("elsewhere"), path)?)
    }),
    files("snapshot: files gone", Found("missing-fs"), |root, m| {
        Ok(fs::remove_dir_all(m.directory(root, m.top())?.join("fs"))?)
    }),
    files("snapshot: directory of nothing", Found("stray-directory"), |root, m| {
        Ok(fs::create_dir(m.directory(root, m.top())?.with_file_name("99"))?)
    }),
    files("snapshot: directories of two", InTrees("tree-differs"), |root, m| {
        let [a, b] = [m.directory(root, m.top())?, m.directory(root, m.middle())?];
        let aside = root.join("aside");
        fs::rename(&a, &aside)?;
        fs::rename(&b, &a)?;
        Ok(fs::rename(aside, b)?)
    }),
    files("snapshot: a file in work", Harmless("overlayfs clears it"), |root, m| {
        let work = m.directory(root, m.top())?.join("work/work");
        fs::create_dir_all(&work)?;
        Ok(fs::write(work.join("x"), "x")?)
    }),
    files("tree: a file too many", InTrees("tree-differs"), |root, m| {
        Ok(fs::write(m.directory(root, m.top())?.join("fs/extra"), "")?)
    }),
    files("tree: a file gone", InTrees("tree-differs"), |root, m| {
        let fs = m.directory(root, m.top())?.join("fs");
        let entry = fs::read_dir(fs)?.next().context("an empty tree")??.path();
        let is_dir = entry.symlink_metadata()?.is_dir();
        Ok(if is_dir { fs::remove_dir_all(entry) } else { fs::remove_file(entry) }?)
    }),
    files("tree: mode of the top", InTrees("tree-differs"), |root, m| {
        mode(&m.directory(root, m.top())?.join("fs"), 0o700)
    }),
    files("tree: owner of the top", InTrees("tree-differs"), |root, m| {
        Ok(chown(m.directory(root, m.top())?.join("fs"), Some(4242), Some(4242))?)
    }),
    files("ROOT: for all", Found("writable-by-others"), |root, _| mode(root, 0o777)),
    files("ROOT: of somebody else", Found("foreign-owner"), |root, _| {
        Ok(chown(root, Some(4242), None)?)
    }),
    files("ROOT: to be read by all", Harmless("nobody can write"), |root, _| {
        mode(root, 0o755)?;
        mode(&root.join("runc-overlayfs"), 0o755)
    }),
    files("worker: for a group", Found("writable-by-others"), |root, _| {
        mode(root, 0o711)?;
        mode(&root.join("runc-overlayfs"), 0o770)
    }),
    files("databases: for all", Found("writable-by-others"), |root, _| {
        mode(root, 0o711)?;
        mode(&root.join(SOLVER), 0o666)
    }),
    files("databases: of somebody else", Found("foreign-owner"), |root, _| {
        Ok(chown(root.join(RECORDS), Some(4242), None)?)
    }),
    files("content: for all", Harmless("nobody gets there"), |root, _| {
        mode(&root.join("runc-overlayfs/content"), 0o777)
    }),
    files("another worker", Harmless("the daemon has its own"), |root, _| {
        fs::create_dir(root.join("runc-native"))?;
        Ok(fs::write(root.join("runc-native/workerid"), "z".repeat(25))?)
    }),
    files("metadata.db of long ago", Harmless("there is a later one"), |root, _| {
        Ok(fs::write(root.join("runc-overlayfs/metadata.db"), "nothing")?)
    }),
];

fn mode(path: &Path, mode: u32) -> Result<()> {
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

fn write_anew(path: &Path, text: &str) -> Result<()> {
    fs::remove_file(path)?;
    Ok(fs::write(path, text)?)
}
