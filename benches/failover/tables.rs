//! The results as Markdown that is also laid out to be read as text.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use vip_lab::load::Spread;

use crate::plan::{Fault, LANES};
use crate::results::{Case, PHASES, Results, replace};

/// What stands between these two lines of PERFORMANCE.md is replaced.
const BEGIN: &str = "<!-- failover: begin -->\n";
const END: &str = "<!-- failover: end -->\n";
/// An error brings along what the daemons said.
const MOST_OF_ERROR: usize = 240;

/// `failover.md`; and the tables in PERFORMANCE.md, if it is in this folder.
pub fn write(out: &Path, tables: &str) -> anyhow::Result<()> {
    let page = out.join("PERFORMANCE.md");
    if !page.exists() {
        return replace(&out.join("failover.md"), tables.as_bytes());
    }
    let text = std::fs::read_to_string(&page)?;
    let (before, rest) =
        text.split_once(BEGIN).with_context(|| format!("no {BEGIN:?} in {}", page.display()))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("no {END:?} in {}", page.display()))?;
    let plot = "![How long new connections failed, by fault: vipd and keepalived](failover.svg)";
    replace(&page, format!("{before}{BEGIN}\n{plot}\n\n{tables}\n{END}{after}").as_bytes())
}

pub fn markdown(results: &Results) -> String {
    let parts = [
        machine(results),
        outages(results),
        failures(results),
        varied(results),
        phases(results),
        idle(results),
        mended(results),
        failed(results),
    ];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n")
}

fn machine(results: &Results) -> String {
    let m = &results.machine;
    let form = results.form;
    // Without it cargo takes the profile `bench`, which is `release`.
    let profile = if cfg!(debug_assertions) { "--profile dev " } else { "" };
    format!(
        "`cargo bench --workspace {profile}--bench failover -- {form} --runs {runs}{only}`, {at}, {took} min.\n\
         {cores} cores ({processor}), {memory} GiB, load {load} before, {stolen:.1} % of their time stolen, all at nice {nice}.\n\
         {system}, Linux {kernel}; the members' logs on {disk}.\n\
         vipd {vipd}, {build}; HAProxy {haproxy}; keepalived {keepalived}, AWS CLI {aws}.\n",
        runs = results.runs,
        only = results.only.as_ref().map(|only| format!(" --only {only:?}")).unwrap_or_default(),
        stolen = results.stolen_percent,
        disk = m.disk,
        at = results.at,
        took = results.took_s.div_ceil(60),
        cores = m.cores,
        processor = m.processor,
        memory = m.memory_gib,
        load = m.load,
        nice = m.nice,
        system = m.system,
        kernel = m.kernel,
        vipd = m.vipd,
        build = m.build,
        haproxy = m.haproxy,
        keepalived = m.keepalived,
        aws = m.aws_cli,
    )
}

/// `316 (335, 340)`, or `none` where no new connection failed in any run.
fn spread(of: Option<&Spread>) -> String {
    let whole = |n: f64| if n.is_finite() { format!("{n:.0}") } else { "endless".into() };
    match of {
        None => "-".into(),
        Some(s) if s.max == 0.0 => "none".into(),
        Some(s) => format!("{} ({}, {})", whole(s.median), whole(s.p95), whole(s.max)),
    }
}

fn outage(case: Option<&Case>) -> String {
    let mut text = spread(case.and_then(|c| c.outage_ms.as_ref()));
    if let Some(case) = case.filter(|c| c.runs.len() < c.planned) {
        let _ = write!(text, ", {} of {}", case.runs.len(), case.planned);
    }
    text
}

fn goal(ms: Option<f64>) -> String {
    match ms {
        None => "-".into(),
        Some(0.0) => "none".into(),
        Some(ms) => format!("{ms:.0}"),
    }
}

fn median(case: Option<&Case>) -> Option<f64> {
    Some(case?.outage_ms?.median)
}

/// How often the first outage goes into the other.
fn ratio(ours: Option<f64>, theirs: Option<f64>) -> String {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if !ours.is_finite() || !theirs.is_finite() => "endless".into(),
        // An outage is known to within the five milliseconds between two requests.
        (Some(ours), Some(theirs)) if ours > 0.0 => match theirs / ours {
            many if many >= 10.0 => format!("{many:.0}"),
            few => format!("{few:.1}"),
        },
        (Some(_), Some(theirs)) if theirs > 0.0 => "none here".into(),
        (Some(_), Some(_)) => "both none".into(),
        _ => "-".into(),
    }
}

/// Faults for which any of the three was measured.
fn measured(results: &Results) -> impl Iterator<Item = (Fault, [Option<&Case>; 3])> {
    let lanes = move |fault| (fault, LANES.map(|system| results.base(system, fault)));
    Fault::ALL.into_iter().map(lanes).filter(|(_, cases)| cases.iter().any(Option::is_some))
}

fn outages(results: &Results) -> String {
    let head = [
        "fault",
        "goal",
        "vipd balanced",
        "keepalived tuned",
        "keepalived default",
        "tuned / vipd",
        "default / vipd",
    ];
    let row = |(fault, [vipd, tuned, default]): (Fault, [Option<&Case>; 3])| {
        vec![
            fault.label().into(),
            goal(fault.goal_ms(LANES[0])),
            outage(vipd),
            outage(tuned),
            outage(default),
            ratio(median(vipd), median(tuned)),
            ratio(median(vipd), median(default)),
        ]
    };
    let rows: Vec<Vec<String>> = measured(results).map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let runs = results.runs;
    format!(
        "How long new connections failed: milliseconds, median (p95, max) of {runs} runs; where fewer were\n\
         measured, the cell says so. EC2 adds no delay; three route tables. The goal is the median's.\n\n{}\n\
         A new connection is made every 5 ms: an outage is known to within as much. The longest time between two\n\
         answered requests, of the runs that say none: {}.\n",
        table(&head, &rows),
        longest_gaps(results)
    )
}

/// What a client that was itself held up would show.
fn longest_gaps(results: &Results) -> String {
    let gap = |system| {
        let cases = Fault::ALL.into_iter().filter_map(|fault| results.base(system, fault));
        let none = cases.filter(|c| c.outage_ms.as_ref().is_some_and(|s| s.max == 0.0));
        none.flat_map(|c| &c.runs).map(|run| run.longest_gap_ms).max_by(f64::total_cmp)
    };
    let told = LANES.map(|system| {
        let gap = gap(system).map_or("-".into(), |ms| format!("{ms:.0} ms"));
        format!("{} {} {gap}", system.name(), system.setting())
    });
    told.join(", ")
}

fn failures(results: &Results) -> String {
    let head = [
        "fault",
        "vipd balanced",
        "open, reset",
        "keepalived tuned",
        "open, reset",
        "keepalived default",
        "open, reset",
    ];
    let row = |(fault, cases): (Fault, [Option<&Case>; 3])| {
        let mut row = vec![fault.label().to_owned()];
        for case in cases {
            row.push(spread(case.and_then(|c| c.failed.as_ref())));
            row.push(case.map_or("-".into(), |c| c.open_broken.to_string()));
        }
        row
    };
    let rows: Vec<Vec<String>> = measured(results).map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "Failed requests of those runs, one being made every 5 ms. *Open, reset*, over all runs: connections that stood\n\
         when the VIP moved, and were answered on an immediate second try; they are not among the failed.\n\n{}{}",
        table(&head, &rows),
        returned(results)
    )
}

/// Not of keepalived, whose daemons are ended and started by hand meanwhile.
fn returned(results: &Results) -> String {
    let cases = results.cases.iter().filter(|c| c.system == LANES[0].name());
    let (mut runs, mut failed, mut lines) = (0, 0, String::new());
    for case in cases {
        let returns: Vec<usize> = case.runs.iter().filter_map(|run| run.failed_on_return).collect();
        let sum: usize = returns.iter().sum();
        (runs, failed) = (runs + returns.len(), failed + sum);
        if sum > 0 {
            let _ = writeln!(lines, "- {}: {sum} in {} runs", case.name(), returns.len());
        }
    }
    if runs == 0 {
        return String::new();
    }
    let lines = if lines.is_empty() { lines } else { format!("\n{lines}") };
    format!(
        "\nWhile the fault was taken back, and until all was in order again: {failed} failed requests in all {runs} runs of\n\
         vipd, these and those of the next table.\n{lines}"
    )
}

fn varied(results: &Results) -> String {
    let head =
        ["system", "EC2 adds", "tables", "fault", "goal", "outage ms", "failed", "last table ms", "route ms"];
    let rows: Vec<Vec<String>> = results
        .varied()
        .map(|c| {
            vec![
                format!("{} {}", c.system, c.setting),
                format!("{} ms", c.ec2_delay_ms),
                c.tables.to_string(),
                c.fault.label().into(),
                c.route_goal_ms().map_or_else(|| goal(c.goal_ms()), |ms| format!("route {ms}")),
                outage(Some(c)),
                spread(c.failed.as_ref()),
                spread(c.all_tables_ms.as_ref()),
                spread(c.phases_ms.get("route")),
            ]
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "One thing varied at a time. The client's own route table is the first of the list; *last table*: from the\n\
         fault until the last one named the new owner, as EC2 executed it. *Route*: vipd's own account of all swaps,\n\
         whose goal with 50 tables is two round trips to EC2. An EC2 that adds 150 ms executes a call after\n\
         half of it, and the client is served from then on.\n\n{}",
        table(&head, &rows)
    )
}

fn phases(results: &Results) -> String {
    let mut head = vec!["fault"];
    head.extend(PHASES);
    let cases = Fault::ALL.into_iter().filter_map(|fault| results.base(LANES[0], fault));
    let rows: Vec<Vec<String>> = cases
        .map(|case| {
            let mut row = vec![case.fault.label().to_owned()];
            row.extend(
                PHASES.map(|p| case.phases_ms.get(p).map_or("-".into(), |s| format!("{:.1}", s.median))),
            );
            row
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "Where vipd's time goes (balanced; the new owner's own account, medians in milliseconds). After a switchover it has\n\
         nothing of what came before: the old owner's verdict on its HAProxy, the calls that it waited for, and its word.\n\n{}",
        table(&head, &rows)
    )
}

fn idle(results: &Results) -> String {
    let head = ["system", "role", "core %", "resident MiB", "wire bytes/s"];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for i in &results.idle {
        rows.push(vec![
            format!("{} {}", i.system, i.setting),
            format!("{} ({})", i.role, i.member),
            format!("{:.2}", i.core_percent),
            format!("{:.1}", i.rss_mib),
            format!("{:.0}", i.wire_bytes_s),
        ]);
    }
    if rows.is_empty() {
        return String::new();
    }
    format!(
        "A member at rest, three route tables, vipd with its defaults. *gRPC alone*: a process that asks one in each other\n\
         zone every 30 ms, as vipd's leader does, with the smallest request that there is, in the clear; what this machine\n\
         charges for the calls.\n\n{}",
        table(&head, &rows)
    )
}

/// What the medians do not show.
fn mended(results: &Results) -> String {
    let mended = results.cases.iter().filter(|c| c.mended > 0);
    let lines: String =
        mended.map(|c| format!("- {}: {} of {} runs\n", c.name(), c.mended, c.runs.len())).collect();
    if lines.is_empty() {
        return lines;
    }
    format!(
        "Runs after which the daemons' view and the routes did not agree, so that the benchmark started them anew:\n\n{lines}"
    )
}

/// Nothing that went wrong is left out.
fn failed(results: &Results) -> String {
    let cases = results.cases.iter();
    let runs = cases.flat_map(|c| c.errors.iter().map(|error| format!("{}: {error}", c.name())));
    let lines: String = results.errors.iter().cloned().chain(runs).map(|line| brief(&line)).collect();
    if lines.is_empty() {
        return lines;
    }
    format!(
        "Labs that did not come up or were given up, and runs that came to no end or left a lab that did not come to\n\
         order (failover.json has each in full):\n\n{lines}"
    )
}

fn brief(error: &str) -> String {
    let mut words: String = error.replace('\n', " ").chars().take(MOST_OF_ERROR).collect();
    if words.len() < error.len() {
        words += "...";
    }
    format!("- {words}\n")
}

/// Columns padded to their widest cell.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|h| h.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:w$}", w = *w)).collect();
        format!("| {} |\n", padded.join(" | "))
    };
    let mut out = line(head.to_vec());
    let dashes: Vec<String> = widths.iter().map(|w| "-".repeat(*w)).collect();
    out += &line(dashes.iter().map(String::as_str).collect());
    for row in rows {
        out += &line(row.iter().map(String::as_str).collect());
    }
    out
}
