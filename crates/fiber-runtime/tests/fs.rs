//! Files through the blocking pool.

#![allow(clippy::unwrap_used, reason = "helpers of tests unwrap as tests do")]

mod common;

use std::collections::BTreeSet;
use std::io::{BufReader, ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use common::{on_fibers, runtime};
use fiber_runtime::fs::{self, File, OpenOptions};
use fiber_runtime::spawn;

/// Both on a fiber and on a plain thread.
fn everywhere(check: fn()) {
    check();
    on_fibers(1, check);
}

#[test]
fn whole_files_are_written_and_read() {
    everywhere(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        assert!(!fs::exists(&path).unwrap());
        assert_eq!(fs::read(&path).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(&path, "some text").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"some text");
        assert_eq!(fs::read_to_string(&path).unwrap(), "some text");
        assert_eq!(fs::metadata(&path).unwrap().len(), 9);
        fs::write(&path, [0xff]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap_err().kind(), ErrorKind::InvalidData);
    });
}

#[test]
fn directories_and_links() {
    everywhere(|| {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::create_dir(at("a/c")).unwrap();
        fs::write(at("a/file"), "1").unwrap();
        fs::symlink("file", at("a/link")).unwrap();
        assert_eq!(fs::read_link(at("a/link")).unwrap().to_str(), Some("file"));
        assert!(fs::symlink_metadata(at("a/link")).unwrap().is_symlink());
        fs::hard_link(at("a/file"), at("a/hard")).unwrap();
        assert_eq!(fs::copy(at("a/file"), at("a/copy")).unwrap(), 1);
        fs::rename(at("a/copy"), at("a/moved")).unwrap();
        assert_eq!(fs::canonicalize(at("a/link")).unwrap(), fs::canonicalize(at("a/file")).unwrap());
        let names: BTreeSet<String> = fs::read_dir(at("a"))
            .unwrap()
            .into_iter()
            .map(|entry| entry.name.into_string().unwrap())
            .collect();
        assert_eq!(names, BTreeSet::from(["b", "c", "file", "hard", "link", "moved"].map(String::from)));
        assert!(
            fs::read_dir(at("a")).unwrap().iter().all(|entry| entry.kind.is_dir() == entry.path.is_dir())
        );
        let mut permissions = fs::metadata(at("a/file")).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(at("a/file"), permissions).unwrap();
        assert!(fs::metadata(at("a/file")).unwrap().permissions().readonly());
        fs::remove_dir(at("a/b")).unwrap();
        assert_eq!(fs::remove_dir(at("a")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        fs::remove_file(at("a/moved")).unwrap();
        fs::remove_dir_all(at("a")).unwrap();
        assert!(!fs::exists(at("a")).unwrap());
    });
}

#[test]
fn a_file_is_read_and_written_in_place_and_by_position() {
    everywhere(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = File::create_new(&path).unwrap();
        assert_eq!(File::create_new(&path).map(drop).unwrap_err().kind(), ErrorKind::AlreadyExists);
        file.write_all(b"0123456789").unwrap();
        file.write_all_at(b"ab", 4).unwrap();
        file.seek(SeekFrom::Start(3)).unwrap();
        let mut three = [0; 3];
        file.read_exact(&mut three).unwrap();
        assert_eq!(&three, b"3ab");
        let mut end = [0; 8];
        assert_eq!(file.read_at(&mut end, 8).unwrap(), 2);
        assert_eq!(file.read_exact_at(&mut end, 8).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        file.set_len(5).unwrap();
        file.sync_data().unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.metadata().unwrap().len(), 5);
        let mut text = String::new();
        BufReader::new(File::open(&path).unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!(text, "0123a");
        let mut appending = File::open_with(OpenOptions::new().append(true), &path).unwrap();
        appending.write_all(b"!").unwrap();
        drop(File::create(&path).unwrap());
        assert_eq!(fs::metadata(&path).unwrap().len(), 0);
    });
}

#[test]
fn many_fibers_write_one_file_at_their_places() {
    on_fibers(2, || {
        let file = Arc::new(File::from_std(tempfile::tempfile().unwrap()));
        let writers: Vec<_> = (0..50_u64)
            .map(|at| {
                let file = file.clone();
                spawn(move || file.write_all_at(&[at as u8; 100], at * 100).unwrap())
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        let mut all = vec![0; 5000];
        file.read_exact_at(&mut all, 0).unwrap();
        assert!(all.iter().enumerate().all(|(at, &byte)| usize::from(byte) == at / 100));
    });
}

#[test]
fn file_operations_run_on_the_pool() {
    let runtime = runtime(1);
    let before = runtime.metrics().blocking_done;
    runtime.block_on(|| {
        let file = File::from_std(tempfile::tempfile().unwrap());
        file.write_all_at(b"x", 0).unwrap();
        file.sync_data().unwrap();
    });
    assert_eq!(runtime.metrics().blocking_done - before, 2);
}
