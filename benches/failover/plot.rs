//! `failover.svg`: for each fault the outages of all runs and their median, vipd's and keepalived's, on a scale of
//! powers of ten. Readable on light and on dark pages: it brings its own background for each.

use std::fmt::Write as _;
use std::path::Path;

use crate::plan::{Fault, LANES, System};
use crate::results::{Case, Results, replace};

const WIDTH: f64 = 960.0;
/// Where 1 ms and 10 s are; a column for runs without an outage lies left of the scale.
const LEFT: f64 = 340.0;
const RIGHT: f64 = 885.0;
const NONE: f64 = 284.0;
const TOP: f64 = 96.0;
const LANE: f64 = 17.0;
const ROW: f64 = 3.0 * LANE + 15.0;
const LONGEST_MS: f64 = 10_000.0;

const STYLE: &str = "\
.page{fill:#ffffff}.text{fill:#1f2328}.dim{fill:#59636e}.grid{stroke:#d1d9e0}\
.a{fill:#0969da}.b{fill:#bc4c00}.c{fill:#8250df}\
@media(prefers-color-scheme:dark){.page{fill:#0d1117}.text{fill:#f0f6fc}.dim{fill:#9198a1}.grid{stroke:#3d444d}\
.a{fill:#4493f8}.b{fill:#f0883e}.c{fill:#ab7df8}}\
text{font:13px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
.title{font-size:17px;font-weight:600}.small{font-size:11.5px}.end{text-anchor:end}.mid{text-anchor:middle}\
.bar{opacity:.22}.dot{opacity:.65}";

/// Nothing where no fault was made.
pub fn write(out: &Path, results: &Results) -> anyhow::Result<()> {
    if results.cases.is_empty() {
        return Ok(());
    }
    replace(&out.join("failover.svg"), draw(results).as_bytes())
}

fn draw(results: &Results) -> String {
    let faults = Fault::ALL.into_iter().filter(|f| LANES.iter().any(|s| results.base(*s, *f).is_some()));
    let faults: Vec<Fault> = faults.collect();
    let bottom = (0..faults.len()).fold(TOP, |y, _| y + ROW);
    let height = bottom + 62.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" \
         aria-label=\"How long clients were without an answer, by fault\"><style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\" rx=\"8\"/>\n\
         <text class=\"text title\" x=\"24\" y=\"34\">How long new connections failed</text>\n"
    );
    legend(&mut svg);
    scale(&mut svg, bottom);
    let mut y = TOP;
    for fault in faults {
        let middle = y + 1.5 * LANE + 4.0;
        let _ = writeln!(
            svg,
            "<text class=\"text end\" x=\"254\" y=\"{middle}\">{}</text>",
            escape(fault.label())
        );
        let mut lane = y;
        for (system, class) in LANES.into_iter().zip(["a", "b", "c"]) {
            if let Some(case) = results.base(system, fault) {
                runs(&mut svg, case, class, lane + LANE / 2.0);
            }
            lane += LANE;
        }
        y += ROW;
    }
    let m = &results.machine;
    let runs = results.runs;
    let _ = writeln!(
        svg,
        "<text class=\"dim small\" x=\"24\" y=\"{}\">A dot is a run ({runs} of each), the bar ends at the median. A new \
         connection every 5 ms; the lab's EC2 adds no delay; three route tables.</text>\n\
         <text class=\"dim small\" x=\"24\" y=\"{}\">{}</text>\n</svg>",
        bottom + 34.0,
        bottom + 51.0,
        escape(&format!(
            "{} cores ({}), Linux {}; vipd {}, keepalived {}, AWS CLI {}; {}",
            m.cores, m.processor, m.kernel, m.vipd, m.keepalived, m.aws_cli, results.at
        )),
    );
    svg
}

fn legend(svg: &mut String) {
    let mut x = 24.0;
    for (system, class) in LANES.into_iter().zip(["a", "b", "c"]) {
        let text = match system {
            System::Vipd(_) => format!("vipd, {}", system.setting()),
            System::Keepalived(_) => format!("keepalived + AWS CLI, {}", system.setting()),
            System::Yardstick => system.name().to_owned(),
        };
        let _ = writeln!(
            svg,
            "<circle class=\"{class}\" cx=\"{}\" cy=\"58\" r=\"5\"/><text class=\"text\" x=\"{}\" y=\"62.5\">{text}</text>",
            x + 5.0,
            x + 16.0
        );
        x += if matches!(system, System::Vipd(_)) { 140.0 } else { 235.0 };
    }
}

fn scale(svg: &mut String, bottom: f64) {
    let _ = writeln!(svg, "<text class=\"dim small mid\" x=\"{NONE}\" y=\"{}\">none</text>", TOP - 10.0);
    for (ms, label) in
        [(1.0, "1 ms"), (10.0, "10 ms"), (100.0, "100 ms"), (1_000.0, "1 s"), (10_000.0, "10 s")]
    {
        let x = place(ms);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{bottom}\"/>\
             <text class=\"dim small mid\" x=\"{x:.1}\" y=\"{}\">{label}</text>",
            TOP - 4.0,
            TOP - 10.0
        );
    }
}

/// Where an outage lies; what is longer than the scale lies at its end.
fn place(ms: f64) -> f64 {
    if ms <= 0.0 {
        return NONE;
    }
    let decades = ms.clamp(1.0, LONGEST_MS).log10() / LONGEST_MS.log10();
    LEFT + (RIGHT - LEFT) * decades
}

fn runs(svg: &mut String, case: &Case, class: &str, y: f64) {
    let Some(spread) = case.outage_ms else { return };
    let end = place(spread.median);
    if spread.median > 0.0 {
        let _ = writeln!(
            svg,
            "<rect class=\"{class} bar\" x=\"{LEFT}\" y=\"{:.1}\" width=\"{:.1}\" height=\"12\" rx=\"2\"/>",
            y - 6.0,
            end - LEFT
        );
    }
    for run in &case.runs {
        let _ = writeln!(
            svg,
            "<circle class=\"{class} dot\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3.4\"/>",
            place(run.outage_ms)
        );
    }
    let label = match spread.median {
        0.0 => "none".into(),
        median if median.is_finite() => format!("{median:.0} ms"),
        _ => "endless".into(),
    };
    // Right of everything that it could cover.
    let right = case.runs.iter().map(|run| place(run.outage_ms)).fold(end, f64::max);
    let _ = writeln!(
        svg,
        "<text class=\"text small\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
        right + 9.0,
        y + 4.0
    );
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
