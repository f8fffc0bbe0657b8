//! Colour where a terminal shows it, and phases as a waterfall.

use std::io::IsTerminal;

/// Columns of the widest bar.
const WIDTH: f64 = 44.0;

/// Whether to colour.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    colour: bool,
}

impl Paint {
    /// On a terminal, unless NO_COLOR is set and not empty (https://no-color.org).
    pub fn for_stdout() -> Self {
        let forbidden = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: std::io::stdout().is_terminal() && !forbidden }
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }

    pub fn bold(self, text: &str) -> String {
        self.wrap("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.wrap("2", text)
    }

    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.wrap("31", text)
    }

    /// One line a phase, each bar beginning where the one before ends.
    pub fn waterfall(self, phases: &[(&'static str, f64)]) -> Vec<String> {
        let total: f64 = phases.iter().map(|(_, ms)| ms.max(0.0)).sum();
        let mut begun = 0.0;
        let mut lines = Vec::new();
        for (name, ms) in phases {
            let (from, to) = (columns(begun, total), columns(begun + ms.max(0.0), total));
            begun += ms.max(0.0);
            // What took any time shows.
            let bar = "█".repeat(to.saturating_sub(from).max(1));
            let room = " ".repeat(from);
            let label = self.dim(&format!("{name:<9}"));
            lines.push(format!("  {label}{room}{} {ms:.1} ms", self.wrap("36", &bar)));
        }
        if lines.len() > 1 {
            lines.push(format!("  {}{total:.1} ms", self.dim(&format!("{:<9}", "total"))));
        }
        lines
    }
}

fn columns(ms: f64, total: f64) -> usize {
    if total <= 0.0 {
        return 0;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and WIDTH")]
    let columns = (ms / total * WIDTH).round().clamp(0.0, WIDTH) as usize;
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_follow_each_other() {
        let plain = Paint { colour: false };
        let lines = plain.waterfall(&[("detect", 30.0), ("elect", 0.0), ("route", 14.0)]);
        assert_eq!(lines[0], format!("  detect   {} 30.0 ms", "█".repeat(30)));
        assert_eq!(lines[1], format!("  elect    {}█ 0.0 ms", " ".repeat(30)));
        assert_eq!(lines[2], format!("  route    {}{} 14.0 ms", " ".repeat(30), "█".repeat(14)));
        assert_eq!(lines[3], "  total    44.0 ms");
        assert!(plain.waterfall(&[]).is_empty());
        assert_eq!(Paint { colour: true }.good("ok"), "\x1b[32mok\x1b[0m");
    }
}
