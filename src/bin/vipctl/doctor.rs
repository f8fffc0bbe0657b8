//! `vipctl doctor`

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use vipd::proto::{Diagnosis, Finding};

use crate::Output;
use crate::client::Client;
use crate::error::Error;
use crate::render::{self, Column, Tone, tone};

/// Find everything that would make the next failover fail
///
/// Each member examines itself: EC2 permissions by DryRun, the source/dest check, the route tables, the VIP's address,
/// the clock, sysctls, HAProxy's bind, network agents, with what right it runs; and the group's picture is judged. Each
/// finding has a level: ok; warn, it would hurt; fail, the next failover would fail, or the one onto that member. Exits 1
/// if there is any fail. DryRuns are few (four tables a member, every quarter of a minute, never near a move), since
/// EC2's budget is the failover's; what is older is shown with its age.
#[derive(Args)]
#[command(after_help = "\
Examples:
  vipctl doctor
  vipctl doctor -o json | jq '.findings[] | select(.level != \"ok\")'")]
pub struct Arguments {}

#[derive(Serialize)]
struct Page<'a> {
    cluster: &'a str,
    /// The worst level.
    verdict: &'a str,
    findings: &'a [Finding],
}

pub async fn run(client: &Client, output: Output) -> Result<ExitCode, Error> {
    let deadline = client.deadline();
    let diagnosis = client.connect(deadline).await?.diagnose(deadline).await?;
    match output {
        Output::Table => render::print(&in_words(&diagnosis))?,
        Output::Json => {
            let verdict = verdict(&diagnosis);
            let Diagnosis { cluster, findings } = &diagnosis;
            render::print(&render::json(&Page { cluster, verdict, findings })?)?;
        }
    }
    Ok(if count(&diagnosis, "fail") > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn count(diagnosis: &Diagnosis, level: &str) -> usize {
    diagnosis.findings.iter().filter(|f| f.level == level).count()
}

fn verdict(diagnosis: &Diagnosis) -> &'static str {
    ["fail", "warn"].into_iter().find(|level| count(diagnosis, level) > 0).unwrap_or("ok")
}

/// What several members say in the same words is said once.
fn together<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<(&'a Finding, String)> {
    let mut all: Vec<(&Finding, String)> = Vec::new();
    for f in findings {
        let who = if f.member.is_empty() { "the group" } else { &f.member };
        let same = |g: &Finding| (&g.check, &g.finding, &g.mend) == (&f.check, &f.finding, &f.mend);
        match all.iter_mut().find(|(g, _)| same(g)) {
            Some((_, names)) => names.push_str(&format!(", {who}")),
            None => all.push((f, who.to_owned())),
        }
    }
    all
}

/// What is wrong first, each with why and what to do; then what is well, a line each.
fn in_words(diagnosis: &Diagnosis) -> String {
    let [fail, warn, ok] = ["fail", "warn", "ok"].map(|level| count(diagnosis, level));
    let mut text = format!("{}  {fail} fail, {warn} warn, {ok} ok\n", tone(Tone::Bold, &diagnosis.cluster));
    for (level, colour) in [("fail", Tone::Bad), ("warn", Tone::Warn)] {
        for (f, who) in together(diagnosis.findings.iter().filter(|f| f.level == level)) {
            text.push_str(&format!(
                "\n{}  {}  {}: {}\n",
                tone(colour, level),
                render::clean(&who),
                render::clean(&f.check),
                render::clean(&f.finding)
            ));
            text.push_str(&format!("      {} {}\n", tone(Tone::Dim, "why "), render::clean(&f.why)));
            text.push_str(&format!("      {} {}\n", tone(Tone::Dim, "mend"), render::clean(&f.mend)));
        }
    }
    let well = diagnosis.findings.iter().filter(|f| f.level == "ok");
    let rows = well.map(|f| {
        vec![
            tone(Tone::Good, "ok"),
            render::dash(&f.member),
            render::clean(&f.check),
            render::clean(&f.finding),
        ]
    });
    let columns = [Column::left(""), Column::left("MEMBER"), Column::left("CHECK"), Column::left("FINDING")];
    if ok > 0 {
        text.push('\n');
        text.push_str(&render::table(&columns, rows));
    }
    text
}
