//! Rows of the table of advisories that concern HTTP/2 and gRPC and that no other test here is named after.

use super::driver::{Driver, block, fields, request};
use crate::contract::Inspector;
use crate::http2::frame::{END_HEADERS, END_STREAM, Kind};

/// One request with these fields beside those of a plain one: what was asked, and what the server saw of it.
fn send(path: &str, extra: &[(&str, &str)]) -> (Vec<String>, Vec<(String, String)>, Driver) {
    let mut driver = Driver::open();
    let mut list = request("GET", path);
    list.extend(extra);
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, block(&list));
    let saw = driver.server_saw();
    let sent = saw.first().map(|frame| fields(&frame.payload)).unwrap_or_default();
    (driver.asked.clone(), sent, driver)
}

fn check_reset(path: &str, extra: &[(&str, &str)]) {
    let (asked, sent, mut driver) = send(path, extra);
    assert!(asked.is_empty() && sent.is_empty(), "{path} {extra:?}: {asked:?}");
    assert_eq!((driver.client_saw()[0].kind, driver.closed), (Kind::Reset, false));
}

#[test]
fn ghsa_p77j_4mvh_x3m3_cve_2026_33186() {
    check_reset("pkg.Svc/Method", &[]);
    check_reset("admin.Admin/Delete", &[("content-type", "application/grpc")]);
}

#[test]
fn cve_2023_27493_cve_2023_27491() {
    check_reset("/a", &[("x", "a\r\nhost: other")]);
    check_reset("/a", &[("x\r\ny", "a")]);
}

#[test]
fn cve_2023_35944() {
    let mut driver = Driver::open();
    let list = [(":method", "GET"), (":scheme", "hTTp"), (":authority", "shop.test"), (":path", "/a")];
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, block(&list));
    assert_eq!(driver.client_saw()[0].kind, Kind::Reset);
}

/// Names come in lower case, so that a rule about `User-Agent` finds them without regard to case.
#[test]
fn grpc_go_9332() {
    check_reset("/a", &[("User-Agent", "bad")]);
    assert_eq!(send("/a", &[("user-agent", "bad")]).0.len(), 1);
}

/// What is no affair of ours passes unread and unchanged.
#[test]
fn cve_2021_28682_cve_2023_32732() {
    for field in [("grpc-timeout", "99999999H"), ("x-bin", "*** no base64 ***"), ("grpc-timeout", "")] {
        let (asked, sent, _) = send("/svc/Call", &[field]);
        assert_eq!(asked.len(), 1);
        assert_eq!(sent.last(), Some(&(field.0.to_owned(), field.1.to_owned())));
    }
}

#[test]
fn cve_2021_39240() {
    let mut driver = Driver::open();
    let mut list = request("GET /admin HTTP/1.1\r\nhost: x\r\n\r\n", "/a");
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 1, block(&list));
    list = request("GET", "/a");
    list.push(("host", "other.test"));
    driver.client(Kind::Headers, END_HEADERS | END_STREAM, 3, block(&list));
    assert_eq!((driver.asked.len(), driver.server_saw().len(), driver.client_saw().len()), (0, 0, 2));
}

#[test]
fn haproxy_d12edebe4() {
    check_reset("/a", &[("content-length", "100")]);
}

#[test]
fn cve_2026_42926() {
    check_reset("/a", &[("x", "a\r\n\r\nGET /admin HTTP/1.1")]);
}

/// A stream of its own frames each tunnel: early bytes are the tunnel's, whatever the server answers.
#[test]
fn cve_2025_64763_cve_2021_43826() {
    let mut driver = Driver::open();
    let connect = [(":method", "CONNECT"), (":authority", "db.test:5432")];
    driver.client(Kind::Headers, END_HEADERS, 1, block(&connect));
    driver.client(Kind::Data, 0, 1, b"GET /admin HTTP/1.1\r\n\r\n");
    driver.server(Kind::Headers, END_HEADERS | END_STREAM, 1, [0x8d]);
    driver.client(Kind::Reset, 0, 1, [0; 4]);
    driver.request(3, true, "/no");
    assert_eq!(driver.asked, ["CONNECT db.test tunnel:db.test:5432", "GET shop.test /no"]);
    assert!(!driver.closed && driver.server_saw().iter().all(|frame| frame.stream == 1));
}

/// Streams that a server never accepts are as many as the limit.
#[test]
fn rustsec_2023_0034_cve_2023_26964() {
    let mut driver = Driver::open();
    for number in 0..150 {
        driver.request(number * 2 + 1, true, "/a");
    }
    assert_eq!(driver.server_saw().len(), 100);
    assert_eq!(driver.http.outstanding(), 100);
}

/// A window of nothing: no body of ours, and nobody waits for it.
#[test]
fn cve_2024_45506() {
    let mut driver = Driver::open();
    driver.client(Kind::Settings, 0, 0, [0, 4, 0, 0, 0, 0]);
    driver.request(1, true, "/no");
    let saw = driver.client_saw();
    assert_eq!((saw.len(), saw[0].flags), (1, END_HEADERS | END_STREAM), "403 without a body");
    driver.client(Kind::WindowUpdate, 0, 0, [0; 4]);
    driver.request(3, true, "/b");
    assert_eq!(driver.asked.len(), 2);
}

#[test]
fn cve_2026_33814() {
    for size in [[0, 0, 0, 0], [0, 0, 0x3f, 0xff], [1, 0, 0, 0]] {
        let mut driver = Driver::open();
        let mut setting = vec![0, 5];
        setting.extend(size);
        driver.server(Kind::Settings, 0, 0, setting);
        assert!(driver.closed, "{size:?}");
    }
}
