//! Damage to images with packed trees. They are files with the first block of an image, and what is mounted is a
//! directory.

use std::os::unix::fs::{FileExt as _, symlink};

use super::*;
use crate::packed::{Image, ImageId, Images, Uuid};

pub(super) const CASES: &[Case] = &[
    ("a mounted image", &[], Files(pack)),
    (
        "an image that was cut off",
        &["packed-image-size"],
        Files(|root| {
            pack(root);
            fs::File::options().write(true).open(image(root)).unwrap().set_len(4095).unwrap();
        }),
    ),
    (
        "the image of other trees",
        &["packed-image-other"],
        Files(|root| {
            pack(root);
            write_image(root, Uuid::of(&Digest::of("others")));
        }),
    ),
    (
        "a file that is not an image",
        &["packed-image-other"],
        Files(|root| {
            pack(root);
            fs::write(image(root), [0; 4096]).unwrap();
        }),
    ),
    (
        "an image that is gone",
        &["packed-image-missing"],
        Files(|root| {
            pack(root);
            fs::remove_file(image(root)).unwrap();
            unmount(root);
        }),
    ),
    (
        "a mounted image whose file is elsewhere now",
        &[],
        Files(|root| {
            pack(root);
            fs::remove_file(image(root)).unwrap();
        }),
    ),
    (
        "an image that is a link",
        &["packed-image-unreadable"],
        Files(|root| {
            pack(root);
            fs::remove_file(image(root)).unwrap();
            symlink("/etc/passwd", image(root)).unwrap();
        }),
    ),
    (
        "the mount of another image",
        &["packed-mount-other"],
        Files(|root| {
            pack(root);
            fs::write(point(root).join(Image::MARKER), Image::marker(&Digest::of("others")))
                .unwrap();
        }),
    ),
    (
        "a mounted image without a tree",
        &["missing-directory"],
        Files(|root| {
            pack(root);
            fs::remove_dir_all(point(root).join("1")).unwrap();
        }),
    ),
    (
        "a mounted image whose tree is a link",
        &["missing-directory"],
        Files(|root| {
            pack(root);
            fs::remove_dir_all(point(root).join("1")).unwrap();
            symlink("/etc", point(root).join("1")).unwrap();
        }),
    ),
    (
        "a description that is cut off",
        &["foreign-link", "foreign-link", "packed-description"],
        Files(|root| {
            pack(root);
            let path = root.path().join("packed/1.json");
            fs::File::options().write(true).open(path).unwrap().set_len(20).unwrap();
        }),
    ),
    (
        "a link to the tree of another snapshot",
        &["foreign-link"],
        Files(|root| {
            pack(root);
            fs::remove_file(root.snapshot(1)).unwrap();
            symlink("../../../packed/1/2", root.snapshot(1)).unwrap();
        }),
    ),
    (
        "a link to another image",
        &["foreign-link"],
        Files(|root| {
            pack(root);
            fs::remove_file(root.snapshot(1)).unwrap();
            symlink("../../../packed/2/1", root.snapshot(1)).unwrap();
        }),
    ),
    (
        "a packed cache mount",
        &["foreign-link"],
        Files(|root| {
            pack(root);
            fs::rename(root.snapshot(4), point(root).join("4")).unwrap();
            symlink("../../../packed/1/4", root.snapshot(4)).unwrap();
        }),
    ),
    (
        "a directory of images that others can write to",
        &["writable-by-others"],
        Files(|root| {
            pack(root);
            let everyone = std::os::unix::fs::PermissionsExt::from_mode(0o777);
            fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711))
                .unwrap();
            fs::set_permissions(root.path().join("packed"), everyone).unwrap();
        }),
    ),
];

#[test]
fn an_image_that_is_not_mounted_is_a_note_with_the_line_to_run() {
    let root = Root::with(&sound());
    pack(&root);
    unmount(&root);
    let found = verify_databases(&root.held).unwrap();
    assert!(found.damage.is_empty(), "{:?}", found.damage);
    let [note] = found.leftovers.as_slice() else { panic!("{:?}", found.leftovers) };
    assert_eq!(note.kind(), "packed-not-mounted");
    let (image, point) = (image(&root), point(&root));
    let line = format!("mount -t erofs -o ro,loop {} {}", image.display(), point.display());
    assert!(note.to_string().ends_with(&line), "{note}");
}

/// Packs the snapshots 1 and 2.
fn pack(root: &Root) {
    let id: ImageId = "1".parse().unwrap();
    let content = Digest::of("the trees");
    let uuid = Uuid::of(&content);
    let size = 4096;
    let snapshots = [1, 2].into();
    let digest = Digest::of("the image");
    let described = Image { size, digest, uuid, content, file: None, snapshots };
    let dir = crate::dir::Dir::open(root.path()).unwrap();
    Images::create(&dir).unwrap().add(id, &described).unwrap();
    write_image(root, uuid);
    fs::create_dir(point(root)).unwrap();
    fs::write(point(root).join(Image::MARKER), Image::marker(&content)).unwrap();
    for snapshot in [1, 2] {
        let name = snapshot.to_string();
        fs::rename(root.snapshot(snapshot), point(root).join(&name)).unwrap();
        symlink(format!("../../../packed/1/{name}"), root.snapshot(snapshot)).unwrap();
    }
}

fn unmount(root: &Root) {
    fs::remove_dir_all(point(root)).unwrap();
    fs::create_dir(point(root)).unwrap();
}

fn point(root: &Root) -> std::path::PathBuf {
    root.path().join("packed/1")
}

fn image(root: &Root) -> std::path::PathBuf {
    root.path().join("packed/1.erofs")
}

/// Writes the first block of an image.
fn write_image(root: &Root, uuid: Uuid) {
    let file = fs::File::create(image(root)).unwrap();
    file.set_len(4096).unwrap();
    file.write_all_at(&0xe0f5_e1e2_u32.to_le_bytes(), 1024).unwrap();
    let digits = uuid.to_string().replace('-', "");
    let bytes = u128::from_str_radix(&digits, 16).unwrap().to_be_bytes();
    file.write_all_at(&bytes, 1024 + 48).unwrap();
}
