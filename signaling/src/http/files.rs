//! The meeting page, held in memory: an answer takes no descriptor, and no look at the disk.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::fs::Metadata;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use aws_lc_rs::digest;
use axum::body::Bytes;
use axum::http::header::{
    ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap,
    IF_NONE_MATCH, VARY,
};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use flate2::Compression;
use flate2::write::GzEncoder;

/// Files at most. The page has about ten; a wrong folder may have any number.
const MAX_FILES: usize = 2_000;

/// Bytes of all files together at most.
const MAX_TOTAL_BYTES: u64 = 64 << 20;

/// Folders in folders at most, which also ends a circle of links.
const MAX_DEPTH: usize = 8;

/// How often the folder is looked at. A new page is taken when nothing has changed between two
/// looks, so that a build is not served half done.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Compressed files must save at least this part of their size: one in `MIN_SAVING`.
const MIN_SAVING: usize = 8;

const INDEX: &str = "index.html";

/// Types by extension, and whether compression is worth a try.
const TYPES: [(&str, &str, bool); 24] = [
    ("html", "text/html; charset=utf-8", true),
    ("js", "text/javascript; charset=utf-8", true),
    ("mjs", "text/javascript; charset=utf-8", true),
    ("css", "text/css; charset=utf-8", true),
    ("json", "application/json", true),
    ("webmanifest", "application/manifest+json", true),
    ("map", "application/json", true),
    ("txt", "text/plain; charset=utf-8", true),
    ("xml", "text/xml; charset=utf-8", true),
    ("svg", "image/svg+xml", true),
    ("wasm", "application/wasm", true),
    ("ico", "image/x-icon", true),
    ("ttf", "font/ttf", true),
    ("woff", "font/woff", false),
    ("woff2", "font/woff2", false),
    ("png", "image/png", false),
    ("jpg", "image/jpeg", false),
    ("webp", "image/webp", false),
    ("avif", "image/avif", false),
    ("gif", "image/gif", false),
    ("mp3", "audio/mpeg", false),
    ("ogg", "audio/ogg", false),
    ("mp4", "video/mp4", false),
    ("webm", "video/webm", false),
];

/// The files of a folder.
pub struct Files {
    folder: PathBuf,
    tree: RwLock<Arc<Tree>>,
}

/// Files by their path in URLs, without the slash at the start.
type Tree = HashMap<String, File>;

struct File {
    kind: &'static str,
    plain: Variant,
    gzip: Option<Variant>,
}

/// A file's bytes as they are sent, and their name.
struct Variant {
    bytes: Bytes,
    etag: HeaderValue,
}

/// What changes when a file is replaced or written.
type Stamp = Vec<(String, u64, Option<SystemTime>)>;

impl Files {
    /// Reads a folder, which may not exist.
    pub fn read(folder: PathBuf) -> Arc<Self> {
        let stamp = stamp(&folder);
        let tree = RwLock::new(Arc::new(read_tree(&folder, &stamp)));
        Arc::new(Files { folder, tree })
    }

    /// Reads the folder again when it has changed. Never ends.
    pub async fn watch(self: Arc<Self>) {
        let mut used = self.stamp().await;
        let mut seen = used.clone();
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let stamp = self.stamp().await;
            // A page that is being built anew has no index for a moment.
            let whole = stamp.iter().any(|(path, ..)| path == INDEX);
            if stamp == seen && stamp != used && whole {
                self.reload(stamp.clone()).await;
                used.clone_from(&stamp);
            }
            seen = stamp;
        }
    }

    /// A slow disk must not hold up everyone else.
    async fn stamp(&self) -> Stamp {
        let folder = self.folder.clone();
        tokio::task::spawn_blocking(move || stamp(&folder)).await.unwrap_or_default()
    }

    async fn reload(&self, stamp: Stamp) {
        let folder = self.folder.clone();
        let read = tokio::task::spawn_blocking(move || read_tree(&folder, &stamp)).await;
        if let Ok(tree) = read {
            tracing::info!(files = tree.len(), "took the new page {}", self.folder.display());
            *self.tree.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tree);
        }
    }

    fn tree(&self) -> Arc<Tree> {
        Arc::clone(&self.tree.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The answer to a request for `path`: a file, or the page itself for links into it. `None`
    /// when there is no page.
    pub fn answer(&self, method: &Method, path: &str, headers: &HeaderMap) -> Option<Response> {
        if method != Method::GET && method != Method::HEAD {
            let allow = [(ALLOW, HeaderValue::from_static("GET, HEAD"))];
            return Some((StatusCode::METHOD_NOT_ALLOWED, allow).into_response());
        }
        let tree = self.tree();
        let path = path.trim_start_matches('/');
        let decoded = percent_encoding::percent_decode_str(path).decode_utf8().ok();
        let file = decoded.as_deref().and_then(|path| {
            let folder = path.is_empty() || path.ends_with('/');
            if folder { tree.get(&format!("{path}{INDEX}")) } else { tree.get(path) }
        });
        let is_link = !path.rsplit('/').next().unwrap_or_default().contains('.');
        match file {
            Some(file) => Some(file.answer(method, headers)),
            None if is_link => tree.get(INDEX).map(|file| file.answer(method, headers)),
            None => Some(StatusCode::NOT_FOUND.into_response()),
        }
    }
}

impl File {
    fn new(path: &str, bytes: Vec<u8>) -> Self {
        let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
        let known = TYPES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(extension));
        let (kind, compress) = known
            .map_or(("application/octet-stream", false), |&(_, kind, compress)| (kind, compress));
        let gzip = compress.then(|| gzip(&bytes)).flatten();
        File { kind, plain: Variant::new(bytes), gzip: gzip.map(Variant::new) }
    }

    fn answer(&self, method: &Method, headers: &HeaderMap) -> Response {
        let gzip = self.gzip.as_ref().filter(|_| takes_gzip(headers));
        let variant = gzip.unwrap_or(&self.plain);
        let known = headers.get_all(IF_NONE_MATCH).iter().any(|known| variant.is_in(known));
        let mut response = match (known, method == Method::HEAD) {
            (true, _) => StatusCode::NOT_MODIFIED.into_response(),
            (false, true) => StatusCode::OK.into_response(),
            (false, false) => variant.bytes.clone().into_response(),
        };
        let fields = response.headers_mut();
        fields.insert(ETAG, variant.etag.clone());
        if self.gzip.is_some() {
            fields.insert(VARY, HeaderValue::from_static("accept-encoding"));
        }
        if !known {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
            fields.insert(CONTENT_LENGTH, variant.bytes.len().into());
            if gzip.is_some() {
                fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        response
    }
}

impl Variant {
    fn new(bytes: Vec<u8>) -> Self {
        let hash = digest::digest(&digest::SHA256, &bytes);
        let hex: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        // Hexadecimal digits in quotes are always a header value.
        let etag = HeaderValue::from_str(&format!("\"{hex}\""))
            .unwrap_or_else(|_| HeaderValue::from_static("\"\""));
        Variant { bytes: bytes.into(), etag }
    }

    /// Whether an `If-None-Match` names it (RFC 9110 section 13.1.2).
    fn is_in(&self, known: &HeaderValue) -> bool {
        let Ok(known) = known.to_str() else { return false };
        known.split(',').map(str::trim).any(|etag| {
            etag == "*"
                || etag.strip_prefix("W/").unwrap_or(etag).as_bytes() == self.etag.as_bytes()
        })
    }
}

/// Whether the client takes gzip: it is named, or everything is, with a weight that is not 0.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = matches!(parts.next(), Some("gzip" | "*"));
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok());
        named && weight.is_none_or(|weight| weight > 0.0)
    })
}

/// `None` when it is hardly shorter.
fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).ok()?;
    let compressed = encoder.finish().ok()?;
    (compressed.len() + bytes.len() / MIN_SAVING < bytes.len()).then_some(compressed)
}

/// Paths, sizes and times of the files that are to be served, in the order of their paths.
fn stamp(folder: &Path) -> Stamp {
    let mut found = Stamp::new();
    let mut folders = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        // A folder that is not there, or not to be read, has no files.
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Ok(metadata) = std::fs::metadata(entry.path()) else { continue };
            if metadata.is_dir() && depth < MAX_DEPTH && folders.len() < MAX_FILES {
                folders.push((entry.path(), format!("{prefix}{name}/"), depth + 1));
            } else if metadata.is_file() {
                found.push(stamp_of(format!("{prefix}{name}"), &metadata));
            }
            if found.len() >= MAX_FILES {
                found.sort();
                return found;
            }
        }
    }
    found.sort();
    found
}

fn stamp_of(path: String, metadata: &Metadata) -> (String, u64, Option<SystemTime>) {
    (path, metadata.len(), metadata.modified().ok())
}

fn read_tree(folder: &Path, stamp: &Stamp) -> Tree {
    let mut left = MAX_TOTAL_BYTES;
    let mut tree = Tree::new();
    for (path, length, _) in stamp {
        let bytes = match left.checked_sub(*length) {
            Some(_) => read_file(&folder.join(path), left),
            None => Err(io::Error::other("the page is too large")),
        };
        match bytes {
            Ok(bytes) => {
                left = left.saturating_sub(bytes.len() as u64);
                tree.insert(path.clone(), File::new(path, bytes));
            }
            Err(error) => tracing::warn!(%error, path, "a file of the page is left out"),
        }
    }
    if stamp.len() >= MAX_FILES {
        tracing::warn!("{}: only {MAX_FILES} files are served", folder.display());
    }
    tree
}

/// At most `max` bytes, for a file may have grown since it was looked at.
fn read_file(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(std::fs::File::open(path)?, max), &mut bytes)?;
    Ok(bytes)
}
