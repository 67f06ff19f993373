//! The base as a directory: what an image lacks, nothing that it has, and never through its links.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A directory that stands for an image, beside the place of its base.
fn yard() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("image");
    fs::create_dir(&image).unwrap();
    (dir, image)
}

fn based_on(dir: &tempfile::TempDir, image: &Path) -> PathBuf {
    ensure(&dir.path().join("1"), &[image.to_owned()], (0, 0)).unwrap()
}

#[test]
fn an_empty_image_gets_every_mount_point() {
    let (dir, _) = yard();
    let base = ensure(&dir.path().join("1"), &[], (0, 0)).unwrap();
    for (path, placeholder) in PLACEHOLDERS {
        let kind = fs::symlink_metadata(base.join(path.join("/"))).unwrap().file_type();
        let is_right = match placeholder {
            Placeholder::Directory => kind.is_dir(),
            Placeholder::File => kind.is_file(),
            Placeholder::Symlink(_) => kind.is_symlink(),
        };
        assert!(is_right, "{path:?}");
    }
}

#[test]
fn what_the_image_has_is_not_covered() {
    let (dir, image) = yard();
    fs::create_dir_all(image.join("etc")).unwrap();
    fs::create_dir_all(image.join("proc")).unwrap();
    fs::write(image.join("etc/hosts"), "of the image").unwrap();
    let base = based_on(&dir, &image);
    assert!(!base.join("etc/hosts").exists() && !base.join("proc").exists());
    assert!(base.join("etc/hostname").is_file() && base.join("sys").is_dir());
}

#[test]
fn a_link_in_the_place_of_a_file_is_covered_so_that_no_mount_follows_it() {
    let (dir, image) = yard();
    fs::create_dir(image.join("etc")).unwrap();
    std::os::unix::fs::symlink("/outside", image.join("etc/resolv.conf")).unwrap();
    let base = based_on(&dir, &image);
    assert!(fs::symlink_metadata(base.join("etc/resolv.conf")).unwrap().is_file());
}

#[test]
fn nothing_is_made_behind_a_link_of_the_image() {
    let (dir, image) = yard();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, image.join("etc")).unwrap();
    let base = based_on(&dir, &image);
    assert!(!base.join("etc").exists());
    assert_eq!(fs::read_dir(outside).unwrap().count(), 0);
}

#[test]
fn directories_look_as_the_images_do() {
    let (dir, image) = yard();
    fs::create_dir(image.join("etc")).unwrap();
    fs::set_permissions(image.join("etc"), fs::Permissions::from_mode(0o751)).unwrap();
    let base = based_on(&dir, &image);
    let looks = |root: &Path| {
        let metadata = fs::metadata(root.join("etc")).unwrap();
        (metadata.permissions().mode(), metadata.modified().unwrap())
    };
    assert_eq!(looks(&base), looks(&image));
}

#[test]
fn a_second_time_nothing_is_made_and_leftovers_of_a_crash_are_in_nobodys_way() {
    let (dir, image) = yard();
    let place = dir.path().join("1");
    let unfinished = place.join(format!("{UNFINISHED}.{:?}", std::thread::current().id()));
    fs::create_dir_all(unfinished.join("rubbish")).unwrap();
    let base = based_on(&dir, &image);
    assert!(!base.join("rubbish").exists() && !unfinished.exists());
    fs::write(base.join("mark"), "").unwrap();
    assert!(based_on(&dir, &image).join("mark").exists());
}
