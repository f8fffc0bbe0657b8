//! The source checked against its own rules: imports point one way, each foreign crate has one home,
//! and nothing under `src/` makes a permit for itself.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A module, and which others of this crate its code may name. `tests` folders may name more.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("mutant", &[]),
    ("clock", &["model", "runtime"]),
    ("runtime", &["model", "clock"]),
    ("fault", &["clock", "runtime"]),
    ("refused", &["clock", "model"]),
    ("aged", &[]),
    ("ledger", &["model", "mutant"]),
    ("decide", &["model", "ledger", "mutant"]),
    ("config", &["model"]),
    ("metrics", &[]),
    ("service", &[]),
    ("net", &["model", "decide"]),
    ("vpc", &["model", "decide", "config", "clock", "mutant"]),
    ("health", &["model", "config"]),
    ("tls", &["model", "config", "clock"]),
    (
        "raft",
        &[
            "model", "aged", "decide", "ledger", "config", "clock", "mutant", "proto", "refused", "runtime",
            "tls",
        ],
    ),
    (
        "rpc",
        &[
            "model", "aged", "decide", "ledger", "config", "clock", "metrics", "proto", "raft", "refused",
            "tls",
        ],
    ),
    ("doctor", &["model", "clock", "config", "decide", "proto", "rpc", "tls", "vpc"]),
    ("fuzz", &["config", "ledger", "health", "net", "raft", "rpc", "tls", "vpc"]),
    (
        "driver",
        &[
            "model", "decide", "ledger", "config", "clock", "metrics", "mutant", "net", "raft", "rpc",
            "runtime", "service", "tls", "vpc",
        ],
    ),
];

/// A foreign crate, as it is written in code, and the only module that may name it.
const HOMES: &[(&str, &str)] = &[
    ("openraft", "raft"),
    ("sled", "raft"),
    ("rtnetlink", "net"),
    ("aws_sdk_ec2", "vpc"),
    ("aws_config", "vpc"),
    ("aws_smithy_http_client", "vpc"),
    ("aws_smithy_runtime_api", "vpc"),
    ("aws_smithy_types", "vpc"),
    ("prometheus", "metrics"),
    ("toml", "config"),
    ("axum", "rpc"),
    ("nix", "rpc"),
    ("rustls", "tls"),
    ("tokio_rustls", "tls"),
    ("x509_parser", "tls"),
    ("rcgen", "bin"),
];

/// What the pure modules must not name.
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "openraft",
    "aws_",
    "sled",
    "tracing",
    "clock::",
    "std::time::Instant",
    "SystemTime",
    "fault!",
];

struct Source {
    module: String,
    path: PathBuf,
    /// Code without comment lines.
    code: String,
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut dirs = vec![Path::new(ROOT).join("src")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("src is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(read(path));
            }
        }
    }
    assert!(found.len() > 40, "only {} files were found", found.len());
    found
}

fn read(path: PathBuf) -> Source {
    let text = std::fs::read_to_string(&path).expect("a source file");
    let inside = path.strip_prefix(Path::new(ROOT).join("src")).expect("under src");
    let first = inside.components().next().expect("a name").as_os_str().to_string_lossy();
    let module = first.trim_end_matches(".rs").to_owned();
    let lines = text.lines().filter(|l| !l.trim_start().starts_with("//"));
    Source { module, path: path.clone(), code: lines.collect::<Vec<_>>().join("\n") }
}

fn is_test(source: &Source) -> bool {
    source.path.components().any(|c| c.as_os_str() == "tests" || c.as_os_str() == "tests.rs")
}

/// A fuzz target's way in: in no program, as `no_program_has_a_fuzz_target` sees to.
fn is_fuzz(source: &Source) -> bool {
    source.path.file_name().is_some_and(|name| name == "fuzz.rs")
}

/// `crate::x`, and every `x` of `crate::{x, y::z}`.
fn named_modules(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut named = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        assert!(!rest.starts_with('{'), "write one `use crate::module` a line");
        if !code[..at].ends_with('$') {
            named.insert(word(rest));
        }
    }
    named
}

#[test]
fn imports_point_one_way() {
    let modules: BTreeSet<&str> = ARROWS.iter().map(|(m, _)| *m).collect();
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| !is_test(s) && modules.contains(s.module.as_str())) {
        let (_, allowed) = ARROWS.iter().find(|(m, _)| *m == source.module).expect("it is in the table");
        for named in named_modules(&source.code) {
            let own = named == source.module;
            if modules.contains(named.as_str()) && !own && !allowed.contains(&named.as_str()) {
                wrong.push(format!("{} names {named}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The path begins with it: `unix::` is no `nix::`.
fn names(code: &str, path: &str) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    code.match_indices(path).any(|(at, _)| !code[..at].ends_with(word))
}

#[test]
fn each_foreign_crate_has_one_home() {
    let mut wrong = Vec::new();
    for source in sources() {
        for (foreign, home) in HOMES {
            let named = names(&source.code, &format!("{foreign}::"))
                || source.code.contains(&format!("use {foreign};"));
            if named && source.module != *home {
                wrong.push(format!("{} names {foreign}, whose home is {home}", source.path.display()));
            }
        }
        let only_store = source.path.components().any(|c| c.as_os_str() == "store");
        if source.code.contains("sled::") && !only_store {
            wrong.push(format!("{} names sled, whose home is raft/store", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_judgement_is_pure() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| ["decide", "ledger", "model"].contains(&s.module.as_str())) {
        for word in IMPURE.iter().filter(|w| source.code.contains(**w)) {
            wrong.push(format!("{} names {word}", source.path.display()));
        }
        if source.code.contains("async ") || source.code.contains(".await") {
            wrong.push(format!("{} waits", source.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn no_program_has_a_fuzz_target() {
    let mut found = 0;
    for source in sources() {
        for (before, _) in source.code.match_indices("mod fuzz;").map(|(at, _)| source.code.split_at(at)) {
            // The last line of it is the `pub` of this one.
            let cfg = before.lines().rev().nth(1).unwrap_or_default();
            assert!(cfg.contains("any(test, fuzzing)"), "{}: {cfg}", source.path.display());
            found += 1;
        }
    }
    assert_eq!(found, sources().iter().filter(|s| is_fuzz(s)).count());
}

#[test]
fn only_tests_make_a_permit_of_their_own() {
    let (mut wrong, mut minted) = (Vec::new(), Vec::new());
    for source in sources().iter().filter(|s| !is_test(s) && !is_fuzz(s)) {
        // The part of a file before its own tests, without the definition itself.
        let shipped = source.code.split("mod tests {").next().unwrap_or_default();
        let path = source.path.display().to_string();
        if shipped.replace("pub fn for_tests(", "").contains("for_tests(") {
            wrong.push(path.clone());
        }
        minted.extend(shipped.matches("Permit::mint(").map(|_| path.clone()));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(matches!(&minted[..], [one] if one.ends_with("src/decide/mod.rs")), "{minted:#?}");
}

/// `fault_25_...` stands for case 25: its row names it, in its file.
#[test]
fn docs_faults_names_every_test_of_a_fault() {
    let rows: BTreeMap<u32, &str> = include_str!("../docs/FAULTS.md").lines().filter_map(row).collect();
    let mut tests: BTreeMap<u32, BTreeMap<String, Vec<String>>> = BTreeMap::new();
    let root = Path::new(ROOT);
    for path in ["src", "tests", "cluster"].iter().flat_map(|part| files(&root.join(part))) {
        let file = path.strip_prefix(root).expect("under the root").display().to_string();
        let text = std::fs::read_to_string(&path).expect("a source file");
        for name in
            text.lines().filter_map(|l| l.trim_start().trim_start_matches("async ").strip_prefix("fn fault_"))
        {
            let Some((number, rest)) = name.split_once('_') else { continue };
            let Ok(number) = number.parse() else { continue };
            let rest = rest.split('(').next().expect("a name").to_owned();
            tests.entry(number).or_default().entry(file.clone()).or_default().push(rest);
        }
    }
    assert!(tests.len() > 40, "only {} cases have a test", tests.len());
    let mut wrong = Vec::new();
    for (number, row) in &rows {
        let of_file = |(file, names): (&String, &Vec<String>)| format!("`{file}`: `{}`", names.join("`, `"));
        let all = tests.remove(number).unwrap_or_default();
        let cell = all.iter().map(of_file).collect::<Vec<_>>().join("<br>");
        let cell = if cell.is_empty() { "-" } else { &cell };
        if *row != cell {
            wrong.push(format!("{number}: {cell}"));
        }
    }
    assert!(wrong.is_empty(), "the last column of docs/FAULTS.md is to be:\n{}", wrong.join("\n"));
    assert!(tests.is_empty(), "docs/FAULTS.md has no row for {tests:#?}");
}

/// FENCING.md speaks of what is there: each test that it names, and in its tables each guard, each property's
/// file and each kind of fault, no fewer and no more.
#[test]
fn docs_fencing_names_what_is_in_the_source() {
    let text = include_str!("../docs/FENCING.md");
    let root = Path::new(ROOT);
    let code: String = ["src", "tests"]
        .iter()
        .flat_map(|part| files(&root.join(part)))
        .map(|path| std::fs::read_to_string(path).expect("a source file"))
        .collect();
    // A name of four words or more that is no setting's is a test's.
    let is_name = |word: &&str| {
        word.matches('_').count() >= 3
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '_'));
    let tests: BTreeSet<&str> = words.filter(is_name).collect();
    assert!(tests.len() > 40, "only {} names of tests were found", tests.len());
    let modules = files(&root.join("tests/sim/invariants")).into_iter();
    let modules = modules.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()));
    let modules: BTreeSet<String> = modules.filter(|name| name != "mod").collect();
    let setting = "removed_leader_step_down";
    let tests: Vec<_> =
        tests.into_iter().filter(|name| !modules.contains(*name) && *name != setting).collect();
    let unknown: Vec<_> = tests.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(unknown.is_empty(), "docs/FENCING.md names tests that are not there: {unknown:#?}");

    let guards = after(include_str!("../src/mutant.rs"), "pub enum Mutant {");
    let guards = guards.lines().filter_map(|l| l.trim().strip_suffix(','));
    let guards: BTreeSet<String> = guards.map(ToOwned::to_owned).collect();
    assert_eq!(named_in(after(text, "### Guards taken out"), 0), guards, "the guards that are taken out");

    let mut rows = named_in(after(text, "| property | source |"), 2);
    rows.remove("stories.rs");
    assert_eq!(rows, modules, "the properties' files");

    let listed = after(include_str!("sim/chaos.rs"), "pub const KINDS: &[&str] = &[");
    let counted = after(include_str!("sim/runner.rs"), "let counted = [");
    let quoted = |text: &str| text.split('"').skip(1).step_by(2).map(ToOwned::to_owned).collect::<Vec<_>>();
    let until = |text: &str| text.split("];").next().unwrap_or_default().to_owned();
    let mut kinds: BTreeSet<String> =
        quoted(&until(listed)).into_iter().chain(quoted(&until(counted))).collect();
    kinds.insert("clock of another rate".to_owned());
    let table = after(text, "| fault | times | fault | times |")
        .lines()
        .take_while(|l| l.is_empty() || l.starts_with('|'));
    let cells =
        table.flat_map(|l| l.trim_matches('|').split('|').step_by(2)).map(|cell| cell.trim().to_owned());
    let cells: BTreeSet<String> = cells.filter(|cell| !cell.is_empty() && !cell.starts_with('-')).collect();
    assert_eq!(cells, kinds, "the kinds of fault");
}

/// The table of docs/OPERATIONS.md has a row for each check of the doctor, and for nothing else.
#[test]
fn docs_operations_names_every_check_of_the_doctor() {
    let mut checks = BTreeSet::new();
    for source in sources().iter().filter(|s| s.module == "doctor" && !is_test(s)) {
        let quoted = |mark: &str| {
            let found = source.code.split(mark).skip(1);
            found.map(|rest| rest.split('"').next().expect("a word").to_owned()).collect::<Vec<_>>()
        };
        let named = quoted("let check = \"");
        for made in source.code.split("Finding::").skip(1) {
            let level_and_rest = || made.strip_prefix("new(")?.split_once(',');
            let rest = made.strip_prefix("ok(").or_else(|| level_and_rest().map(|(_, rest)| rest));
            let Some(rest) = rest else { continue };
            let word = rest.split(',').next().expect("a word").trim();
            match word.strip_prefix('"') {
                Some(literal) => checks.extend(literal.strip_suffix('"').map(ToOwned::to_owned)),
                None if word == "check" => assert!(!named.is_empty(), "{}: {word}", source.path.display()),
                None => {
                    let constant = quoted(&format!("const {word}: &str = \""));
                    assert_eq!(constant.len(), 1, "{} has a check {word}", source.path.display());
                    checks.extend(constant);
                }
            }
        }
        checks.extend(named);
    }
    let (_, table) = include_str!("../docs/OPERATIONS.md")
        .split_once("| check | looks at |\n|---|---|\n")
        .expect("the table");
    let rows = table.lines().take_while(|l| l.starts_with("| "));
    let cells = rows.filter_map(|row| row.split('|').nth(1));
    let rows: BTreeSet<String> = cells.flat_map(|c| c.split(',')).map(|c| c.trim().to_owned()).collect();
    assert_eq!(checks, rows, "the doctor's checks, and the rows of its table");
}

/// What follows `mark`, to the end of that block or section.
fn after<'a>(text: &'a str, mark: &str) -> &'a str {
    let (_, rest) = text.split_once(mark).unwrap_or_else(|| panic!("{mark} is not there"));
    let end = ["\n}", "\n### ", "\n## "].iter().filter_map(|end| rest.find(end)).min();
    &rest[..end.unwrap_or(rest.len())]
}

/// What stands in backticks in that column of a table's rows.
fn named_in(text: &str, column: usize) -> BTreeSet<String> {
    let rows = text.lines().filter(|l| l.starts_with("| ")).map(|l| l.trim_matches('|'));
    let cells = rows.filter_map(|row| row.split('|').nth(column));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(ToOwned::to_owned).collect()
}

/// The number and the last column of a case's row.
fn row(line: &str) -> Option<(u32, &str)> {
    let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    Some((cells.first()?.parse().ok()?, cells.last()?))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry").path());
    let found = entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] });
    found.filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

/// What stands in for a crate of crates.io: few, each with its reason where it is kept and in deny.toml, with no
/// dependency of its own, and without `unsafe`.
#[test]
fn what_is_vendored_is_named_with_its_reason_and_forbids_unsafe_code() {
    let read = |path: &str| std::fs::read_to_string(Path::new(ROOT).join(path)).expect(path);
    let root: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let patched = root["patch"]["crates-io"].as_table().expect("a table");
    let folders = std::fs::read_dir(Path::new(ROOT).join("vendor")).expect("vendor");
    let folders: BTreeSet<String> =
        folders.map(|f| f.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    assert_eq!(
        folders,
        patched.keys().cloned().collect(),
        "what is in vendor and what stands in for a crate"
    );
    assert_eq!(
        folders,
        ["base2histogram".to_owned()].into(),
        "one more needs a reason, here and in deny.toml"
    );
    let deny = read("deny.toml");
    for (name, patch) in patched {
        assert_eq!(patch["path"].as_str(), Some(format!("vendor/{name}").as_str()));
        let manifest = read(&format!("vendor/{name}/Cargo.toml"));
        assert!(manifest.starts_with(&format!("# Stands in for {name} ")), "{name} does not say what for");
        assert!(manifest.contains("docs/decisions/") && deny.contains(&format!("vendor/{name} stands in")));
        let table: toml::Table = manifest.parse().expect("TOML");
        assert!(!table.contains_key("dependencies") && !table.contains_key("build-dependencies"), "{name}");
        let files = files(&Path::new(ROOT).join("vendor").join(name));
        assert!(files.iter().all(|f| f.ends_with("src/lib.rs")), "{name} has more than one file: {files:?}");
        let code = read(&format!("vendor/{name}/src/lib.rs"));
        assert!(
            code.lines().any(|line| line == "#![forbid(unsafe_code)]"),
            "{name} does not forbid unsafe code"
        );
    }
}

/// The compiler holds each crate to it; this holds each crate to having asked. What ships is built with
/// overflow checks, and a panic, be it theirs, ends the process (`bin/vipd.rs: die_whole`).
#[test]
fn every_crate_forbids_unsafe_code_and_a_release_checks_for_overflow() {
    let read = |path: &str| std::fs::read_to_string(Path::new(ROOT).join(path)).expect("a manifest");
    let root: toml::Table = read("Cargo.toml").parse().expect("TOML");
    let forbids = |lints: &toml::Value| lints["rust"]["unsafe_code"].as_str() == Some("forbid");
    assert!(forbids(&root["workspace"]["lints"]));
    assert_eq!(root["profile"]["release"]["overflow-checks"].as_bool(), Some(true));
    let members = root["workspace"]["members"].as_array().expect("members");
    let members = members.iter().map(|m| format!("{}/Cargo.toml", m.as_str().expect("a path")));
    for manifest in members.chain(["Cargo.toml".to_owned()]) {
        let table: toml::Table = read(&manifest).parse().expect("TOML");
        let lints = table.get("lints").unwrap_or_else(|| panic!("{manifest} asks for no lints"));
        let inherits = lints.get("workspace").and_then(toml::Value::as_bool) == Some(true);
        assert!(inherits || forbids(lints), "{manifest} does not forbid unsafe code");
    }
}
