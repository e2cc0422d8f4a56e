//! The service as a process: good and hostile uploads, requests that are dropped, several at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may, and says what it leaves out"
)]

mod caches;
mod client;
mod server;

use std::io::Write as _;
use std::path::Path;
use std::thread::{self, sleep};
use std::time::Duration;

use oci2bk::{Root, Verifier};
use rustix::process::{Signal, geteuid};
use serde_json::{Value, json};

use crate::client::{Answer, Upload, request, upload};
use crate::server::{Data, Running, Server, can_extract, until};

/// Checks an error: its status and class, that nothing is left, and that no path of the machine is shown.
fn refused(data: &Data, answer: &Answer, status: u16, class: &str) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    let error = answer.json()["error"].clone();
    assert_eq!(error["class"], class, "{answer:?}");
    for path in [data.path(), &std::env::temp_dir(), Path::new("/proc"), Path::new("work/")] {
        assert!(!answer.body.contains(path.to_str().unwrap()), "{answer:?}");
    }
    until(|| data.work().is_empty());
    assert!(data.is_empty());
    error
}

/// Checks a state: that it is sound, complete, and what the answer says. Returns its number of blobs.
fn sound(data: &Data, answer: &Answer) -> usize {
    assert_eq!(answer.status, 201, "{answer:?}");
    let state = answer.json();
    assert_eq!((&state["complete"], &state["shortfalls"]), (&json!(true), &json!([])), "{state}");
    assert_eq!(answer.location(), format!("/states/{}", state["id"].as_str().unwrap()));
    assert!(!answer.body.contains(data.path().to_str().unwrap()), "{answer:?}");
    let root = Root::open(data.path().join(state["root"].as_str().unwrap())).unwrap();
    let report = Verifier::new().trees(geteuid().is_root()).verify(&root).unwrap();
    assert!(report.damage.is_empty());
    assert_eq!(state["stored"]["blob_count"], report.counts.blobs);
    assert_eq!(state["stored"]["snapshot_count"].as_u64().unwrap() > 0, geteuid().is_root());
    report.counts.blobs
}

#[test]
fn an_upload_becomes_a_state_until_it_is_deleted() {
    let data = Data::new();
    let server = Running::start(&data, &[]);
    let made = upload(server.address, &caches::index());
    assert!(sound(&data, &made) > 0);
    assert!(data.work().is_empty());

    let shown = request(server.address, "GET", made.location());
    assert_eq!((shown.status, shown.json()), (200, made.json()));
    let listed = request(server.address, "GET", "/states");
    assert_eq!(listed.json(), json!({"states": [made.json()["id"]]}));

    // A builder has it.
    let root = data.states()[0].join("root");
    let held = Root::open(&root).unwrap();
    let refused = request(server.address, "DELETE", made.location());
    assert_eq!((refused.status, &refused.json()["error"]["class"]), (409, &json!("in-use")));
    assert!(!refused.body.contains(data.path().to_str().unwrap()), "{refused:?}");
    drop(held);

    assert_eq!(request(server.address, "DELETE", made.location()).status, 204);
    assert!(data.is_empty());
    for method in ["GET", "DELETE"] {
        let answer = request(server.address, method, made.location());
        assert_eq!(
            (answer.status, &answer.json()["error"]["kind"]),
            (404, &json!("service.no-state"))
        );
    }
    server.end();
}

#[test]
fn an_id_is_not_a_path() {
    let data = Data::new();
    let server = Running::start(&data, &[]);
    for id in ["..", "%2e%2e%2fwork", "%2e%2e%2f%2e%2e%2f%2e%2e%2fx", "lock"] {
        for method in ["GET", "DELETE"] {
            assert_eq!(request(server.address, method, &format!("/states/{id}")).status, 404);
        }
    }
    assert!(data.path().join("lock").exists());
    server.end();
}

#[test]
fn a_layer_of_zeros_is_refused_and_leaves_nothing() {
    if !can_extract() {
        return;
    }
    let data = Data::new();
    let server = Running::start(&data, &[]);
    let bomb = caches::of_layer(&caches::zeros());
    assert!(bomb.len() < 4_000_000);
    let error = refused(&data, &upload(server.address, &bomb), 413, "limit");
    assert_eq!(error["limit"], "ratio-from");
    server.end();
}

#[test]
fn an_archive_of_zeros_is_refused_and_leaves_nothing() {
    let data = Data::new();
    let server = Running::start(&data, &["--limit=ratio-from=16Mi"]);
    let error = refused(&data, &upload(server.address, &caches::zeros()), 413, "limit");
    assert_eq!(error["limit"], "layer-ratio");
    server.end();
}

#[test]
fn names_that_lead_out_of_the_upload_are_refused() {
    let data = Data::new();
    let server = Running::start(&data, &[]);
    let digest = "sha256:../../../../../../../../etc/shadow";
    refused(&data, &upload(server.address, &caches::of_digest(digest)), 422, "input");
    let missing = format!("sha256:{}", "0".repeat(64));
    let error = refused(&data, &upload(server.address, &caches::of_digest(&missing)), 422, "input");
    assert!(error.to_string().contains("the upload"), "{error}");
    refused(&data, &upload(server.address, b"no archive"), 422, "input");
    server.end();
}

#[test]
fn a_layer_cannot_write_outside() {
    if !can_extract() {
        return;
    }
    let data = Data::new();
    let outside = tempfile::tempdir().unwrap();
    let server = Running::start(&data, &[]);
    let target = outside.path().to_str().unwrap();
    let name = format!("out{target}/planted");
    let link = archives::symlink("out", "/");
    let layer = archives::archive(&[link, archives::file(name, "planted")]);
    let answer = upload(server.address, &caches::of_layer(&caches::gzip(&layer)));
    sound(&data, &answer);
    assert_eq!(outside.path().read_dir().unwrap().count(), 0);
    server.end();
}

#[test]
fn a_tree_that_is_deeper_than_the_limit_on_open_files_can_be_deleted() {
    if !can_extract() {
        return;
    }
    let data = Data::new();
    let server = Running::start(&data, &[]);
    let deep = "d/".repeat(2000);
    let path = archives::pax(&[("path", deep.as_bytes())]);
    let layer = archives::archive(&[path, archives::dir("d")]);
    let made = upload(server.address, &caches::of_layer(&caches::gzip(&layer)));
    sound(&data, &made);
    assert_eq!(request(server.address, "DELETE", made.location()).status, 204);
    assert!(data.is_empty());
    server.end();
}

#[test]
fn an_upload_has_a_maximum_size() {
    let data = Data::new();
    let server = Running::start(&data, &["--max-upload=1000"]);
    let announced = Upload::of_size(server.address, 1001).answer();
    let mut counted = Upload::begin(server.address, "Transfer-Encoding: chunked");
    counted.send(&[b"3e9\r\n", &[0; 1001][..], b"\r\n"].concat());
    for answer in [announced, counted.answer()] {
        let error = refused(&data, &answer, 413, "limit");
        assert_eq!(
            (&error["kind"], &error["limit"]),
            (&json!("service.too-large"), &json!("max-upload"))
        );
    }
    server.end();
}

#[test]
fn an_upload_has_a_maximum_time() {
    let data = Data::new();
    let server = Running::start(&data, &["--upload-time=1"]);
    let mut slow = Upload::of_size(server.address, 1000);
    slow.send(&[0; 999]);
    let error = refused(&data, &slow.answer(), 408, "limit");
    assert_eq!(error["kind"], "service.too-slow");
    server.end();
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let data = Data::new();
    let server = Running::start(&data, &[]);
    let archive = caches::index();
    let mut broken = Upload::of_size(server.address, archive.len());
    broken.send(&archive[..archive.len() / 2]);
    until(|| data.work().len() == 1);
    drop(broken);
    until(|| data.work().is_empty());
    assert!(data.is_empty());
    server.end();
}

/// Begins an upload whose conversion waits for someone to read the log of the service.
fn converting(data: &Data, server: &mut Server) -> Upload {
    server.fill_log();
    let archive = caches::index();
    let mut upload = Upload::of_size(server.address, archive.len());
    upload.send(&archive);
    until(|| data.work().iter().any(|it| it.join("root/.oci2bk-staging").exists()));
    upload
}

#[test]
fn a_dropped_request_cancels_the_conversion_and_leaves_nothing() {
    let data = Data::new();
    let mut server = Server::start(&data, &["--at-once=1"]);
    converting(&data, &mut server).drop_it();
    // The task still writes, so its directory is still there, and it has its place: another upload waits.
    let archive = caches::min();
    let mut next = Upload::of_size(server.address, archive.len());
    next.send(&archive);
    sleep(Duration::from_millis(300));
    let [work] = &data.work()[..] else { panic!("it is gone, or not alone") };
    let id = work.file_name().unwrap().to_str().unwrap().to_owned();

    let server = server.read_log();
    until(|| !work.exists());
    sound(&data, &next.answer());
    assert!(data.work().is_empty());
    assert_eq!(data.states().len(), 1);
    let log = server.end();
    assert!(log.contains(&format!("{id}: convert.cancelled")), "{log}");
    assert!(log.contains(&format!("{id}: removed")), "{log}");
    assert!(!log.contains(&format!("{id}: publish")), "{log}");
}

#[test]
fn the_end_of_the_service_cancels_the_conversion_and_leaves_nothing() {
    let data = Data::new();
    let mut server = Server::start(&data, &[]);
    let upload = converting(&data, &mut server);
    server.send(Signal::TERM);
    // It is answered before the conversion has ended.
    let answer = upload.answer();
    assert_eq!(data.work().len(), 1);
    let (status, log) = server.read_log().wait();
    assert!(status.success(), "{log}");
    assert!(log.contains(": convert.cancelled"), "{log}");
    refused(&data, &answer, 503, "cancelled");
}

#[test]
fn a_request_without_an_end_does_not_hold_up_that_of_the_service() {
    let data = Data::new();
    let server = Running::start(&data, &[]);
    let mut request = std::net::TcpStream::connect(server.address).unwrap();
    request.write_all(b"GET /states HTTP/1.1\r\nHo").unwrap();
    // The service has the connection when it answers one that came later.
    assert_eq!(client::request(server.address, "GET", "/states").status, 200);
    server.end();
}

#[test]
fn what_a_killed_service_has_begun_is_removed() {
    let data = Data::new();
    let mut server = Server::start(&data, &[]);
    let upload = converting(&data, &mut server);
    server.send(Signal::KILL);
    server.read_log().wait();
    drop(upload);
    assert_eq!(data.work().len(), 1);
    let server = Running::start(&data, &[]);
    assert!(data.is_empty());
    server.end();
}

#[test]
fn two_uploads_at_once_are_both_right_and_a_third_waits() {
    let data = Data::new();
    let server = Running::start(&data, &["--at-once=2"]);
    let archives = [caches::index(), caches::min(), caches::min()];
    let begin = |archive: &[u8]| {
        let mut upload = Upload::of_size(server.address, archive.len());
        upload.send(&archive[..archive.len() / 2]);
        upload
    };
    let mut uploads: Vec<_> = archives[..2].iter().map(|archive| begin(archive)).collect();
    until(|| data.work().len() == 2);
    // All of it is sent, so it would be the first to end if it had a place. The time makes that more likely.
    let mut third = Upload::of_size(server.address, archives[2].len());
    third.send(&archives[2]);
    sleep(Duration::from_millis(300));
    for (upload, archive) in uploads.iter_mut().zip(&archives) {
        assert!(data.work().len() == 2 && data.states().is_empty());
        upload.send(&archive[archive.len() / 2..archive.len() - 1]);
    }
    assert!(data.work().len() == 2 && data.states().is_empty());
    let answers: Vec<_> = thread::scope(|scope| {
        let ending: Vec<_> = uploads
            .into_iter()
            .zip(&archives)
            .map(|(mut upload, archive)| {
                scope.spawn(move || {
                    upload.send(&archive[archive.len() - 1..]);
                    upload.answer()
                })
            })
            .collect();
        ending.into_iter().map(|answer| answer.join().unwrap()).collect()
    });
    let blobs: Vec<_> = answers.iter().map(|answer| sound(&data, answer)).collect();
    assert_eq!(sound(&data, &third.answer()), blobs[1]);
    assert_ne!(blobs[0], blobs[1]);
    assert!(data.work().is_empty());
    server.end();
}
