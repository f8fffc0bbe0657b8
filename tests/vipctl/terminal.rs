//! What a person at a terminal sees; script(1) lends the terminal.

use tokio::io::AsyncReadExt as _;

use super::*;

const HOME: &str = "\x1b[H";

/// `vipctl status --watch` on a terminal of its own, until it has drawn three times.
async fn watched(endpoint: &str, environment: &[(&str, &str)]) -> String {
    let line = format!(
        "stty rows 10 cols 60; exec {} --endpoint {endpoint} status --watch",
        env!("CARGO_BIN_EXE_vipctl")
    );
    let mut child = Command::new("script")
        .args(["--quiet", "--flush", "--return", "--command", &line, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR")
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("script, of bsdutils");
    let mut out = child.stdout.take().unwrap();
    let mut seen = Vec::new();
    let draw = async {
        while text_of(&seen).matches(HOME).count() < 3 {
            let mut some = [0; 4096];
            let n = out.read(&mut some).await.unwrap();
            assert!(n > 0, "it ended: {:?}", text_of(&seen));
            seen.extend_from_slice(&some[..n]);
        }
    };
    tokio::time::timeout(BOUND, draw).await.expect("three pages in time");
    text_of(&seen)
}

fn text_of(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn watch_redraws_in_place_and_within_the_window() {
    let endpoint = Fake::new().on_tcp().await;
    let seen = watched(&endpoint, &[]).await;
    assert_eq!(seen.matches("\x1b[2J").count(), 1, "cleared once, then drawn over: {seen:?}");
    let pages: Vec<&str> = seen.split(HOME).skip(1).collect();
    assert!(pages[1].contains("edge") && pages[1].contains("\x1b[K"), "{seen:?}");
    assert_eq!(pages[1].matches('\n').count(), 9, "ten rows, the last for the cursor: {seen:?}");
    assert!(pages[1].contains("more lines"), "{seen:?}");
    assert!(pages[1].contains("\x1b[32msteady\x1b[0m"), "in colours: {seen:?}");
}

#[tokio::test]
async fn no_color_is_obeyed_on_a_terminal() {
    let endpoint = Fake::new().on_tcp().await;
    let seen = watched(&endpoint, &[("NO_COLOR", "1")]).await;
    let coloured = seen.split("\x1b[").skip(1).any(|sequence| {
        sequence.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
    });
    assert!(!coloured, "{seen:?}");
    assert!(seen.contains("edge  steady"), "{seen:?}");
}
