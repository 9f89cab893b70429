//! Wrong configurations: one line on standard error that says what to do, and a status that is not
//! zero.

use std::net::{TcpListener, UdpSocket};

use crate::server::run_to_end;

/// One line, no output, and this status; returns the line.
fn refused(flags: &[&str], variables: &[(&str, &str)], status: i32) -> String {
    let (code, stdout, stderr) = run_to_end(flags, variables);
    assert_eq!(code, Some(status), "{flags:?} {variables:?}: {stderr}");
    assert_eq!(stdout, "", "{flags:?}");
    let lines: Vec<&str> =
        stderr.lines().filter(|line| line.starts_with("opencall-sfu: ")).collect();
    assert_eq!(lines.len(), 1, "{flags:?}: {stderr}");
    if status == 2 {
        assert_eq!(stderr.lines().count(), 1, "{flags:?}: {stderr}");
    }
    lines[0].to_owned()
}

#[test]
fn flags_and_variables_are_checked_alike() {
    type Variables = &'static [(&'static str, &'static str)];
    let table: [(&[&str], Variables, &str); 8] = [
        (&["--listen-ip", "0.0.0.0"], &[], "--announced-ip"),
        (&[], &[("MEDIASOUP_LISTEN_IP", "0.0.0.0")], "MEDIASOUP_ANNOUNCED_IP"),
        (&[], &[("MEDIASOUP_LISTEN_IP", "::"), ("MEDIASOUP_ANNOUNCED_IP", "")], "--announced-ip"),
        (&[], &[("MEDIASOUP_NUM_WORKERS", "0")], "from 1 to"),
        (&[], &[("RTC_MIN_PORT", "50001"), ("RTC_MAX_PORT", "50000")], "RTC_MAX_PORT"),
        (&["--workers", "4", "--rtc-max-port", "40002"], &[], "RTC_MAX_PORT"),
        (&[], &[("DTLS_CERT_FILE", "/dev/null"), ("DTLS_KEY_FILE", "/dev/null")], "PEM"),
        (&["--unknown"], &[], "--help"),
    ];
    for (flags, variables, word) in table {
        let line = refused(flags, variables, 2);
        assert!(line.contains(word), "{line}");
    }
}

#[test]
fn a_taken_http_port_is_said_in_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = refused(&["--http-listen", &address], &[], 1);
    assert!(line.contains(&address) && line.contains("--http-listen"), "{line}");
}

#[test]
fn a_taken_media_port_is_said_in_one_line() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let flags = ["--http-listen", "127.0.0.1:0", "--workers", "1", "--rtc-min-port", &port];
    let line = refused(&[&flags[..], &["--rtc-max-port", "65535"]].concat(), &[], 1);
    assert!(line.contains(&port), "{line}");
}

#[test]
fn help_and_version_are_no_errors() {
    for (flag, word) in [("--help", "MEDIASOUP_LISTEN_IP"), ("--version", "opencall-sfu ")] {
        let (code, stdout, stderr) = run_to_end(&[flag], &[]);
        assert_eq!((code, stderr.as_str()), (Some(0), ""));
        assert!(stdout.contains(word), "{stdout}");
    }
}
