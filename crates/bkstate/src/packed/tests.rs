use std::fs;
use std::os::unix::fs::symlink;

use crate::snapshots::Trees;
use crate::worker::Worker;

use super::*;
use crate::Digest;

/// An image with the snapshots 7 and 8.
fn image(content: &str) -> Image {
    let content = Digest::of(content);
    let (digest, uuid) = (Digest::of("image"), Uuid::of(&content));
    Image { size: 4096, digest, uuid, content, file: None, snapshots: [7, 8].into() }
}

fn id(number: u32) -> ImageId {
    number.to_string().parse().unwrap()
}

#[test]
fn a_number_has_one_name() {
    assert_eq!(id(12).to_string(), "12");
    for text in ["", "0", "-1", "+1", "01", "1 ", "1.erofs", "4294967296", "x"] {
        assert!(text.parse::<ImageId>().is_err(), "{text:?}");
    }
}

#[test]
fn a_target_counts_in_one_form_only() {
    assert_eq!(id(1).target(7), "../../../packed/1/7");
    assert_eq!(ImageId::of_target(b"../../../packed/1/7", 7), Some(id(1)));
    for target in [
        "/etc",
        "../../../packed/1/8",
        "../../../packed/01/7",
        "../../../packed/1/07",
        "../../../packed/1/7/",
        "../../../packed/1//7",
        "../../../packed/./1/7",
        "../../../packed/1/../1/7",
        "../../packed/1/7",
        "../../../../packed/1/7",
        "/var/lib/buildkit/packed/1/7",
        "../../../packed/1",
        "../../../packed/x/7",
        "\u{ff}",
    ] {
        assert_eq!(ImageId::of_target(target.as_bytes(), 7), None, "{target}");
    }
    assert_eq!(ImageId::of_target(b"../../../packed/1/\xff", 7), None);
}

#[test]
fn links_lead_only_to_snapshots_that_the_description_has() {
    let temp = tempfile::tempdir().unwrap();
    let root = Dir::open(temp.path()).unwrap();
    let mut images = Images::create(&root).unwrap();
    images.add(id(1), &image("a")).unwrap();
    let trees = Trees::create(&root, Worker::default().form()).unwrap().with_images(images);
    let links = temp.path().join("snapshots");
    // 9 is not in the image, 8 leads to the directory of another snapshot, and there is no image 2.
    symlink("../../../packed/1/7", links.join("7")).unwrap();
    symlink("../../../packed/1/7", links.join("8")).unwrap();
    symlink("../../../packed/1/9", links.join("9")).unwrap();
    symlink("../../../packed/2/10", links.join("10")).unwrap();
    symlink("/etc", links.join("11")).unwrap();
    assert_eq!(trees.find(7).unwrap().packed, Some(id(1)));
    for foreign in 8..=11 {
        let found = trees.find(foreign).unwrap();
        assert!(found.is_foreign_link && found.packed.is_none() && !found.top, "{foreign}");
        assert!(trees.fs(foreign).is_err(), "{foreign}");
    }
    // Removing a link leaves what it leads to.
    trees.remove("11").unwrap();
    assert!(fs::exists("/etc").unwrap() && !trees.names().unwrap().contains("11"));
}

#[test]
fn a_mount_is_the_image_if_its_top_says_so() {
    let temp = tempfile::tempdir().unwrap();
    let root = Dir::open(temp.path()).unwrap();
    let mut images = Images::create(&root).unwrap();
    images.add(id(1), &image("a")).unwrap();
    let point = temp.path().join("packed/1");
    let mounted = || images.mounted(id(1)).unwrap();
    assert!(matches!(mounted(), Mounted::No));
    fs::create_dir(&point).unwrap();
    assert!(matches!(mounted(), Mounted::No));
    assert_eq!(
        images.tree(id(1), 7).unwrap_err().source.to_string(),
        "the image with it is not mounted"
    );

    // Another image, none at all, and something that would make us wait.
    let content = point.join(Image::MARKER);
    fs::write(&content, Image::marker(&image("b").content)).unwrap();
    assert!(matches!(mounted(), Mounted::Other));
    assert_eq!(
        images.tree(id(1), 7).unwrap_err().source.to_string(),
        "something else than the image with it is mounted"
    );
    fs::write(&content, "x".repeat(1 << 20)).unwrap();
    assert!(matches!(mounted(), Mounted::Other));
    fs::remove_file(&content).unwrap();
    symlink("/dev/zero", &content).unwrap();
    assert!(matches!(mounted(), Mounted::Other));
    fs::remove_file(&content).unwrap();
    fs::create_dir(point.join("7")).unwrap();
    assert!(matches!(mounted(), Mounted::Other));

    fs::write(&content, Image::marker(&image("a").content)).unwrap();
    assert!(matches!(mounted(), Mounted::Yes(_)));
    // A link in the image is not followed.
    symlink("/etc", point.join("8")).unwrap();
    assert!(images.tree(id(1), 7).is_ok() && images.tree(id(1), 8).is_err());

    // And the mount point may not be a link.
    fs::rename(&point, temp.path().join("elsewhere")).unwrap();
    symlink("../elsewhere", &point).unwrap();
    assert!(matches!(mounted(), Mounted::Other));
}

#[test]
fn descriptions_are_read_strictly() {
    let temp = tempfile::tempdir().unwrap();
    let root = Dir::open(temp.path()).unwrap();
    let mut images = Images::create(&root).unwrap();
    images.add(id(1), &image("a")).unwrap();
    let path = temp.path().join("packed/1.json");
    let text = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        (r#""format":1"#, r#""format":2"#),
        (r#""format":1"#, r#""format":"1""#),
        ("sha256:", "sha1:"),
        (r#""size":4096"#, r#""size":-1"#),
        (r#""uuid":""#, r#""uuid":"0"#),
        ("[7,8]", "[7,8.5]"),
        (text.as_str(), "[]"),
        (text.as_str(), ""),
    ] {
        let changed = text.replacen(from, to, 1);
        assert_ne!(changed, text, "{from}");
        fs::write(&path, &changed).unwrap();
        let images = Images::open(&root).unwrap();
        assert!(images.is_empty() && images.unreadable().eq([id(1)]), "{changed}");
        assert!(images.read_again(id(1)).is_err(), "{changed}");
        // Its number stays taken.
        assert_eq!(images.next_id(), id(2));
    }
    let elsewhere = Image { file: Some("/srv/image".into()), ..image("a") };
    images.add(id(1), &elsewhere).unwrap();
    let images = Images::open(&root).unwrap();
    assert_eq!(images.get(id(1)), Some(&elsewhere));
    assert_eq!(images.image_path(id(1)), Path::new("/srv/image"));
}

#[test]
fn what_was_begun_is_removed_and_nothing_else() {
    let temp = tempfile::tempdir().unwrap();
    let root = Dir::open(temp.path()).unwrap();
    let mut images = Images::create(&root).unwrap();
    images.add(id(1), &image("a")).unwrap();
    let packed = temp.path().join("packed");
    for file in ["1.erofs", "2.erofs", "3.new", "notes", "0.erofs"] {
        fs::write(packed.join(file), "").unwrap();
    }
    fs::create_dir(packed.join("2")).unwrap();
    // Not understood, but not begun either.
    fs::write(packed.join("4.json"), "").unwrap();
    let mut images = Images::open(&root).unwrap();
    assert_eq!(images.next_id(), id(5));
    images.remove_unfinished().unwrap();
    let names = || {
        let names = root.dir(PACKED).unwrap().entries().unwrap();
        names.iter().map(|entry| entry.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(), ["0.erofs", "1.erofs", "1.json", "4.json", "notes"]);
    images.remove(id(1)).unwrap();
    assert_eq!(names(), ["0.erofs", "4.json", "notes"]);
    // What is in use stays.
    fs::create_dir_all(packed.join("6/7")).unwrap();
    assert!(Images::open(&root).unwrap().remove_unfinished().is_err());
}

#[test]
fn a_uuid_is_of_version_8() {
    let uuid = Uuid::of(&Digest::of("a")).to_string();
    assert_eq!((uuid.len(), &uuid[14..15]), (36, "8"));
    assert!(["8", "9", "a", "b"].contains(&&uuid[19..20]), "{uuid}");
}
