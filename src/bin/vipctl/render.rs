//! How it looks: tables, waterfalls, colours, and the way out to the terminal.
//!
//! A colour is set by `tone` as one zero-width character on either side of the text, so that
//! columns are measured right, and becomes an escape sequence, or nothing, only on the way out.

use std::io::{ErrorKind, IsTerminal as _, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Effects, Style};
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use vipd::proto::Move;

use crate::error::{Error, Kind};

/// What a colour means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tone {
    Good,
    Warn,
    Bad,
    Dim,
    Bold,
    Bar,
}

// Unicode's invisible operators and variation selectors: width 0 in every table, and no one's text.
const END: char = '\u{2060}';
const TONES: [(Tone, char, Style); 6] = [
    (Tone::Good, '\u{2061}', AnsiColor::Green.on_default()),
    (Tone::Warn, '\u{2062}', AnsiColor::Yellow.on_default()),
    (Tone::Bad, '\u{2063}', AnsiColor::Red.on_default().effects(Effects::BOLD)),
    (Tone::Dim, '\u{2064}', Style::new().effects(Effects::DIMMED)),
    (Tone::Bold, '\u{fe00}', Style::new().effects(Effects::BOLD)),
    (Tone::Bar, '\u{fe01}', AnsiColor::Cyan.on_default()),
];

/// `text`, cleaned, in that tone.
pub fn tone(tone: Tone, text: &str) -> String {
    let text = clean(text);
    let mark = TONES.iter().find(|(t, _, _)| *t == tone).map(|(_, mark, _)| *mark);
    match mark {
        Some(mark) if !text.is_empty() => format!("{mark}{text}{END}"),
        Some(_) | None => text,
    }
}

/// What came over the wire, on one line and without anything that a terminal would obey.
pub fn clean(text: &str) -> String {
    let ours = |c: char| c == END || TONES.iter().any(|(_, mark, _)| *mark == c);
    text.chars().filter(|c| !ours(*c)).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `text`, cleaned, or a dash where there is none.
pub fn dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { clean(text) }
}

/// A column's head and the side it is set to.
pub struct Column(&'static str, CellAlignment);

impl Column {
    pub const fn left(head: &'static str) -> Self {
        Self(head, CellAlignment::Left)
    }

    pub const fn right(head: &'static str) -> Self {
        Self(head, CellAlignment::Right)
    }
}

/// A table without borders, two spaces between columns, ending in a newline.
pub fn table(columns: &[Column], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|Column(head, _)| tone(Tone::Dim, head)));
    table.add_rows(rows);
    for (drawn, Column(_, side)) in table.column_iter_mut().zip(columns) {
        drawn.set_padding((0, 2));
        drawn.set_cell_alignment(*side);
    }
    format!("{}\n", table.trim_fmt())
}

// What is not between 0 and eleven days comes from a broken member; it gets no bar.
fn is_a_time(ms: f64) -> bool {
    (0.0..=1e9).contains(&ms)
}

/// Milliseconds for people: one decimal below ten, none above.
pub fn ms(value: f64) -> String {
    if !is_a_time(value) {
        "?".into()
    } else if value < 9.95 {
        format!("{value:.1} ms")
    } else {
        format!("{value:.0} ms")
    }
}

/// failover, switchover or first; a failover stands out.
pub fn move_kind(m: &Move) -> String {
    tone(if m.kind == "failover" { Tone::Warn } else { Tone::Good }, &m.kind)
}

/// `switchover az-a -> az-b in 63 ms, term 8: asked for`
pub fn move_in_words(m: &Move) -> String {
    let from = dash(m.from.as_deref().unwrap_or_default());
    let mut words = format!("{} {from} -> {}", move_kind(m), tone(Tone::Bold, &m.to));
    if let Some(total) = m.total_ms {
        words.push_str(&format!(" in {}", ms(total)));
    }
    if m.term > 0 {
        words.push_str(&format!(", term {}", m.term));
    }
    if !m.reason.is_empty() {
        words.push_str(&format!(": {}", clean(&m.reason)));
    }
    words
}

// With the phase's name before it and its time behind it the waterfall is 68 columns wide.
const BAR_WIDTH: usize = 46;

/// One line for each phase that took place, its bar where it began and as long as it took.
pub fn waterfall(m: &Move) -> String {
    let Some(p) = &m.phases_ms else {
        return String::new();
    };
    let phases = [
        ("detect", p.detect),
        ("elect", p.elect),
        ("claim", p.claim),
        ("address", p.address),
        ("route", p.route),
        ("verify", p.verify),
    ];
    let phases: Vec<(&str, f64)> = phases
        .into_iter()
        .filter_map(|(name, took)| Some((name, took.filter(|took| is_a_time(*took))?)))
        .collect();
    let total: f64 = phases.iter().map(|(_, took)| took).sum();
    let column = |time: f64| match time / total {
        share if share.is_finite() => (share * BAR_WIDTH as f64).round() as usize,
        _ => 0,
    };
    let mut begun = 0.0;
    let mut lines = String::new();
    for (name, took) in phases {
        let start = column(begun).min(BAR_WIDTH - 1);
        begun += took;
        let length = column(begun).saturating_sub(start);
        // Too short for a block: an edge still shows where it was.
        let bar = if length == 0 { "▏".into() } else { "█".repeat(length) };
        let rest = BAR_WIDTH.saturating_sub(start + length.max(1));
        let (before, after) = (" ".repeat(start), " ".repeat(rest));
        let bar = tone(Tone::Bar, &bar);
        lines.push_str(&format!("  {name:<8}{before}{bar}{after} {:>9}\n", ms(took)));
    }
    lines
}

/// The contract's JSON, indented, ending in a newline.
pub fn json(value: &impl Serialize) -> Result<String, Error> {
    as_json(value, serde_json::to_string_pretty)
}

/// The same in one line.
pub fn json_line(value: &impl Serialize) -> Result<String, Error> {
    as_json(value, serde_json::to_string)
}

fn as_json<T: Serialize>(
    value: &T,
    write: fn(&T) -> Result<String, serde_json::Error>,
) -> Result<String, Error> {
    let text = write(value).map_err(|error| {
        let next = "report this, it is a bug of vipctl";
        Error::new(Kind::Failed, format!("cannot write the answer as JSON: {error}"), next)
    })?;
    Ok(format!("{text}\n"))
}

/// Prints to standard output, in colours on a terminal.
pub fn print(text: &str) -> Result<(), Error> {
    let out = std::io::stdout();
    print_bytes(paint(text, AutoStream::choice(&out)).as_bytes())
}

/// Prints to standard output as it is. Where the reader has gone (`| head`) nothing is left to
/// say, and the program ends well.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => {
            let cause = format!("cannot write to standard output: {error}");
            Err(Error::new(Kind::Failed, cause, "make room for it, or send it elsewhere"))
        }
    }
}

/// Prints to standard error, in colours on a terminal.
pub fn complain(text: &str) {
    let err = std::io::stderr();
    let text = paint(text, AutoStream::choice(&err));
    // Nobody is left to tell where standard error is closed.
    let _ = err.lock().write_all(text.as_bytes());
}

/// Prints an error's JSON; where even that cannot be written the exit code has to tell.
pub fn say_last(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// Whether a person watches standard output.
pub fn on_a_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Draws `page` over the one before it. Line by line, since clearing first would flicker.
pub fn redraw(page: &str) -> Result<(), Error> {
    const HOME: &str = "\x1b[H";
    const CLEAR_LINE: &str = "\x1b[K";
    const CLEAR_BELOW: &str = "\x1b[J";
    // A long line is cut at the edge: wrapped, it would push the top out of the window.
    const CUT: &str = "\x1b[?7l";
    const WRAP: &str = "\x1b[?7h";
    let page = match rustix::termios::tcgetwinsize(std::io::stdout()) {
        Ok(size) if size.ws_row > 0 => within(page, size.ws_row.into()),
        // Its height is not known.
        Ok(_) | Err(_) => page.to_owned(),
    };
    let page = paint(&page, AutoStream::choice(&std::io::stdout()));
    let page = page.replace('\n', &format!("{CLEAR_LINE}\n"));
    print_bytes(format!("{CUT}{HOME}{page}{CLEAR_BELOW}{WRAP}").as_bytes())
}

/// As much of `page` as a window of `rows` shows without scrolling; the last row stays the cursor's.
fn within(page: &str, rows: usize) -> String {
    let lines: Vec<&str> = page.lines().collect();
    let room = rows.saturating_sub(1);
    if lines.len() <= room {
        return page.to_owned();
    }
    let shown = room.saturating_sub(1);
    let mut cut: String = lines.iter().take(shown).flat_map(|line| [line, "\n"]).collect();
    let more = format!("{} more lines: a taller window shows them", lines.len() - shown);
    cut.push_str(&format!("{}\n", tone(Tone::Dim, &more)));
    cut
}

fn paint(text: &str, choice: ColorChoice) -> String {
    let coloured = choice != ColorChoice::Never;
    let mut painted = String::with_capacity(text.len());
    for c in text.chars() {
        if c == END {
            if coloured {
                painted.push_str(&anstyle::Reset.render().to_string());
            }
        } else if let Some((_, _, style)) = TONES.iter().find(|(_, mark, _)| *mark == c) {
            if coloured {
                painted.push_str(&style.render().to_string());
            }
        } else {
            painted.push(c);
        }
    }
    painted
}

#[cfg(test)]
mod tests {
    use super::*;
    use vipd::proto::Phases;

    #[test]
    fn a_tone_does_not_move_a_column() {
        let columns = [Column::left("A"), Column::right("N")];
        let rows = |word: String| vec![vec![word, "7".into()], vec!["longest".into(), "12".into()]];
        let plain = paint(&table(&columns, rows("x".into())), ColorChoice::Never);
        let toned = paint(&table(&columns, rows(tone(Tone::Bad, "x"))), ColorChoice::Never);
        assert_eq!(plain, toned);
        assert_eq!(plain, "A         N\nx         7\nlongest  12\n");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        let text = tone(Tone::Good, "steady");
        assert_eq!(paint(&text, ColorChoice::Never), "steady");
        assert_eq!(paint(&text, ColorChoice::Always), "\x1b[32msteady\x1b[0m");
    }

    #[test]
    fn a_page_that_is_too_long_for_the_window_says_so() {
        assert_eq!(within("a\nb\nc\n", 4), "a\nb\nc\n");
        let cut = paint(&within("a\nb\nc\nd\n", 4), ColorChoice::Never);
        assert_eq!(cut, "a\nb\n2 more lines: a taller window shows them\n");
        assert_eq!(within("a\nb\n", 1).lines().count(), 1);
    }

    #[test]
    fn the_wire_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{2063}d\u{9b}"), "a [2Jb cd ");
    }

    #[test]
    fn a_bar_begins_where_the_one_before_it_ends() {
        let phases = Phases { detect: Some(150.0), route: Some(50.0), ..Phases::default() };
        let m = Move { phases_ms: Some(phases), ..Move::default() };
        let drawn = paint(&waterfall(&m), ColorChoice::Never);
        let expected = format!(
            "  detect  {}{}    150 ms\n  route   {}{}     50 ms\n",
            "█".repeat(35),
            " ".repeat(11),
            " ".repeat(35),
            "█".repeat(11),
        );
        assert_eq!(drawn, expected);
    }

    #[test]
    fn a_waterfall_survives_any_number() {
        for wild in [f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MAX, f64::MIN_POSITIVE] {
            let phases = Phases { elect: Some(wild), verify: Some(wild), ..Phases::default() };
            let m = Move { phases_ms: Some(phases), ..Move::default() };
            for line in waterfall(&m).lines() {
                assert!(line.chars().count() < 80, "{wild}: {line}");
            }
        }
    }
}
