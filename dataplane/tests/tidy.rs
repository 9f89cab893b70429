//! The shape of the source: 100 columns, functions that fit a screen, `unsafe` in one crate,
//! dependencies that point one way, and no merge half done.
//!
//! Left out: `vendor/`, whose layout is its authors'; in Markdown tables, code, and lines without a
//! place to break, such as addresses.

use std::path::{Path, PathBuf};

const MAX_COLUMNS: usize = 100;
const MAX_FUNCTION_LINES: usize = 70;

/// The repository.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// All files of the repository with this extension, below folders that are ours.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            let is_ours = !name.starts_with('.')
                && !["target", "vendor", "node_modules", "dist"].contains(&&*name);
            if path.is_dir() && !path.is_symlink() && is_ours {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "no .{extension} file below {}", root().display());
    found.sort();
    found
}

fn report(faults: &[String], advice: &str) {
    assert!(faults.is_empty(), "{} places; {advice}:\n{}", faults.len(), faults.join("\n"));
}

fn at(path: &Path, line: usize) -> String {
    format!("{}:{}", path.strip_prefix(root()).unwrap_or(path).display(), line + 1)
}

fn too_long(line: &str) -> bool {
    line.chars().count() > MAX_COLUMNS
}

#[test]
fn rust_keeps_within_its_columns() {
    let mut faults = Vec::new();
    for path in files("rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut in_code = false;
        for (number, line) in text.lines().enumerate() {
            let bare = line.trim_start();
            // A string that cannot be broken is rustfmt's to keep.
            let is_comment = bare.starts_with("//");
            in_code = is_comment && (in_code ^ bare.contains("```"));
            if is_comment && !in_code && too_long(line) && bare.split(' ').count() > 2 {
                faults.push(at(&path, number));
            }
        }
    }
    report(&faults, "wrap these comments at 100 columns");
}

#[test]
fn prose_keeps_within_its_columns() {
    let mut faults = Vec::new();
    for path in files("md") {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut in_code = false;
        for (number, line) in text.lines().enumerate() {
            in_code ^= line.trim_start().starts_with("```");
            let breaks = line.trim_start().split(' ').count() > 2;
            if too_long(line) && breaks && !in_code && !line.starts_with('|') {
                faults.push(at(&path, number));
            }
        }
    }
    report(&faults, "wrap these paragraphs at 100 columns");
}

#[test]
fn no_merge_is_left_half_done() {
    let extensions = ["md", "rs", "ts", "tsx", "css", "html", "py", "toml"];
    let scripts = std::fs::read_dir(root().join("scripts")).unwrap().flatten();
    let scripts = scripts.map(|entry| entry.path()).filter(|path| path.is_file());
    let mut faults = Vec::new();
    for path in extensions.into_iter().flat_map(files).chain(scripts) {
        let text = std::fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            if line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ") {
                faults.push(at(&path, number));
            }
        }
    }
    report(&faults, "say what both sides meant");
}

#[test]
fn functions_fit_a_screen() {
    let mut faults = Vec::new();
    for path in files("rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        for (number, name, length) in functions(&lines) {
            if length > MAX_FUNCTION_LINES {
                faults.push(format!("{} {name}: {length} lines", at(&path, number)));
            }
        }
    }
    report(&faults, "give parts of these a name of their own; 70 lines are the most");
}

/// Line, name and length of each function with a body, by the layout that rustfmt gives. Tables of
/// tests, which have no parts, do not count.
fn functions<'a>(lines: &[&'a str]) -> Vec<(usize, &'a str, usize)> {
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let bare = line.trim_start();
        let indent = &line[..line.len() - bare.len()];
        let Some((before, rest)) = bare.split_once("fn ") else { continue };
        let is_item = before.split_whitespace().all(|word| {
            word.starts_with("pub")
                || ["const", "async", "unsafe", "extern", "\"C\""].contains(&word)
        });
        let is_test = lines[..number]
            .iter()
            .rev()
            .take_while(|line| line.trim_start().starts_with(['#', '/']))
            .any(|line| line.contains("test"));
        if !is_item || is_test {
            continue;
        }
        let name = rest.split(['(', '<']).next().unwrap_or_default();
        // On one line, without a body, or to the brace below its beginning.
        let end = lines[number..].iter().enumerate().position(|(index, line)| {
            let Some(rest) = line.strip_prefix(indent) else { return false };
            let is_outer = !rest.starts_with(' ');
            rest == "}" || is_outer && (rest.ends_with(';') || index == 0 && rest.ends_with('}'))
        });
        found.push((number, name, end.map_or(0, |end| end + 1)));
    }
    found
}

#[test]
fn a_function_that_is_too_long_is_found() {
    let text =
        format!("impl X {{\n    pub(crate) fn long(\n{}    }}\n}}\n", "        a();\n".repeat(80));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(functions(&lines), [(1, "long", 82)]);
}

#[test]
fn unsafe_stands_in_one_crate() {
    let io = root().join("dataplane/io");
    let word = concat!("un", "safe");
    let mut faults = Vec::new();
    for path in files("rs").into_iter().filter(|path| !path.starts_with(&io)) {
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap();
            let uses = ["{", "fn", "impl", "extern"].map(|next| format!("{word} {next}"));
            if uses.iter().any(|use_of| code.contains(use_of.as_str())) {
                faults.push(at(&path, number));
            }
        }
    }
    report(&faults, "move it to dataplane/io, behind a safe interface");
}

/// Which of the workspace's crates the manifest of `folder` names, for whatever purpose.
fn own_crates(folder: &str) -> Vec<String> {
    let manifest = std::fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
    let names = manifest.lines().filter_map(|line| line.split(['.', ' ']).next());
    names.filter(|name| name.starts_with("opencall-")).map(str::to_owned).collect()
}

#[test]
fn dependencies_point_one_way() {
    let layers = [
        ("dataplane/io", &[][..]),
        // Words that outlive the process are made with what it forbids itself.
        ("dataplane/wire", &["opencall-io"]),
        // The last one for tests: links that clients are behind.
        ("dataplane", &["opencall-io", "opencall-wire", "opencall-emulator"]),
        ("dataplane/recorder", &["opencall-dataplane", "opencall-wire"]),
        ("control", &["opencall-dataplane", "opencall-recorder", "opencall-wire"]),
        // It measures any server, and so knows of ours what is on the wire.
        ("bench", &["opencall-emulator", "opencall-io", "opencall-wire"]),
        ("bench/emulator", &[]),
    ];
    for (folder, allowed) in layers {
        assert_eq!(own_crates(folder), allowed, "what {folder} depends on");
    }
}

#[test]
fn the_ten_functions_that_a_packet_passes_are_where_the_architecture_says() {
    let text = std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let (_, section) = text.split_once("## From socket to socket").expect("the section");
    let rows = section.lines().skip_while(|line| !line.starts_with("| 1 |"));
    let rows: Vec<&str> = rows.take_while(|line| line.starts_with('|')).collect();
    assert_eq!(rows.len(), 10);
    let mut faults = Vec::new();
    for (number, row) in (1..).zip(rows) {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let (function, file) = (cells[2], cells[3]);
        assert_eq!(cells[1], number.to_string(), "in order");
        let source = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        if !source.contains(&format!("fn {function}(")) {
            faults.push(format!("{function} in {file}"));
        }
    }
    report(&faults, "say in docs/ARCHITECTURE.md what they are called now, and where they are");
}
