//! `watch`: the lab at a glance, until ^C.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde_json::Value;

use crate::control::{Request, ask};
use crate::spec::Spec;

/// Fast enough for the eye.
const EVERY: Duration = Duration::from_millis(200);

/// Prints until the process is interrupted or the lab goes.
pub fn run(spec: &Spec) -> anyhow::Result<()> {
    let screen = std::io::stdout().is_terminal();
    loop {
        let status = ask(&spec.dir, &Request::Status)?;
        let routes = ask(&spec.dir, &Request::Routes)?;
        let mut out = std::io::stdout().lock();
        // Home, then clear what is below.
        write!(out, "{}{}", if screen { "\x1b[H\x1b[J" } else { "" }, page(spec, &status, &routes))?;
        out.flush()?;
        drop(out);
        std::thread::sleep(EVERY);
    }
}

fn page(spec: &Spec, status: &Value, routes: &Value) -> String {
    let mut page = String::new();
    for zone in &spec.zones {
        let cut = status.pointer(&format!("/cuts/{}", zone.member)).is_some();
        let _ = write!(page, "{:<6}{:<12}{:<12}", zone.member, zone.zone, zone.ip);
        for process in status.pointer("/processes").and_then(Value::as_array).into_iter().flatten() {
            if text(process, "member") == zone.member {
                let _ = write!(page, "{:<8}{:<12}", text(process, "process"), state(process));
            }
        }
        let _ = writeln!(page, "{}", if cut { "cut off" } else { "" });
    }
    for route in routes.as_array().into_iter().flatten() {
        let member = text(route, "member");
        let (table, destination, target) =
            (text(route, "table"), text(route, "destination"), text(route, "target"));
        let _ =
            writeln!(page, "{table:<10}{destination:<20}-> {target:<10}{member:<6}{}", text(route, "state"));
    }
    page.push('\n');
    page
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("-")
}

fn state(process: &Value) -> String {
    let yes = |key| process.get(key).and_then(Value::as_bool).unwrap_or(false);
    match process.get("pid").and_then(Value::as_i64) {
        Some(pid) if yes("frozen") => format!("{pid} frozen"),
        Some(pid) => pid.to_string(),
        None => "down".into(),
    }
}
