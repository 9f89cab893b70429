//! Opens and seals SFrame frames as it is told, line by line, with the crate `sframe`. All bytes
//! are hexadecimal, and `-` stands for none:
//!
//! * `open CODEC BASE_KEY FRAME`, a frame as it comes over the wire → what was sealed in it
//! * `seal BASE_KEY KID COUNTER METADATA PLAIN` → the sealed frame
//!
//! A line that begins with `!` says why not.
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::{BufRead, Write};

use sframe::CipherSuite;
use sframe::frame::{EncryptedFrameView, MediaFrameView, MonotonicCounter};
use sframe::key::{DecryptionKey, EncryptionKey};

const SUITE: CipherSuite = CipherSuite::AesGcm128Sha256;

fn main() -> Result<(), Box<dyn Error>> {
    let mut output = std::io::BufWriter::new(std::io::stdout().lock());
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["open", codec, base_key, frame] => open(codec, base_key, frame),
            ["seal", base_key, kid, counter, metadata, plain] => {
                seal(base_key, kid, counter, metadata, plain)
            }
            _ => Err("neither open nor seal".into()),
        };
        match answer {
            Ok(bytes) => writeln!(output, "{}", to_hex(&bytes))?,
            Err(error) => writeln!(output, "! {error}")?,
        }
    }
    Ok(())
}

/// The frame is clear prefix ‖ SFrame ‖ length of the prefix; in H.264, the latter two are escaped.
fn open(codec: &str, base_key: &str, frame: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let frame = from_hex(frame)?;
    let [.., high, low] = frame[..] else {
        return Err("no length".into());
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (prefix, body) = frame.split_at_checked(length).ok_or("too long a prefix")?;
    let body = if codec == "h264" { without_escapes(prefix, body) } else { body.to_vec() };
    let sealed = &body[..body.len().saturating_sub(2)];
    let encrypted = EncryptedFrameView::try_with_meta_data(sealed, prefix)?;
    let key = DecryptionKey::derive_from(SUITE, encrypted.header().key_id(), from_hex(base_key)?)?;
    let mut plain = Vec::new();
    Ok(encrypted.decrypt_into(&key, &mut plain)?.payload().to_vec())
}

fn seal(
    base_key: &str,
    kid: &str,
    counter: &str,
    metadata: &str,
    plain: &str,
) -> Result<Vec<u8>, Box<dyn Error>> {
    let key = EncryptionKey::derive_from(SUITE, kid.parse::<u64>()?, from_hex(base_key)?)?;
    let begin = counter.parse::<u64>()?;
    let mut counter = MonotonicCounter::with_start_value(begin, u64::MAX);
    let (metadata, plain) = (from_hex(metadata)?, from_hex(plain)?);
    let frame = MediaFrameView::try_with_meta_data(&mut counter, &plain, &metadata)?;
    let mut sealed = Vec::new();
    frame.encrypt_into(&key, &mut sealed)?;
    Ok(sealed)
}

/// Removes each 3 that follows two zeros; those at the end of `before` count.
fn without_escapes(before: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut zeros = before.iter().rev().take_while(|byte| **byte == 0).count();
    let mut plain = Vec::with_capacity(bytes.len());
    for &byte in bytes {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        plain.push(byte);
        zeros = if byte == 0 { zeros + 1 } else { 0 };
    }
    plain
}

fn from_hex(text: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    if text == "-" {
        return Ok(Vec::new());
    }
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err("not hexadecimal".into());
    }
    let digits = (0..text.len()).step_by(2);
    Ok(digits.map(|at| u8::from_str_radix(&text[at..at + 2], 16)).collect::<Result<_, _>>()?)
}

fn to_hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".into();
    }
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
