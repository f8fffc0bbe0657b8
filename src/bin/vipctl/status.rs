//! `vipctl status`, and the view that other verbs print a part of.

use std::process::ExitCode;

use clap::Args;
use vipd::proto::{Member, Status};

use crate::client::{Client, Session};
use crate::error::{Error, Kind};
use crate::render::{self, Column, Tone, clean, dash, tone};
use crate::{Output, watch};

/// Show the members, the owner, the routes and the last move
///
/// States: no-quorum, moving, paused, degraded, steady. It always prints what is known: without a
/// quorum the asked member's own view, and exits 3; with -o json the view is then all it prints.
#[derive(Args)]
#[command(after_help = "\
Examples:
  vipctl status
  vipctl status --watch
  vipctl status -o json | jq -r .owner")]
pub struct Arguments {
    /// Keep looking, twice a second: redraw on a terminal, one line a change into a pipe; ^C ends it
    #[arg(long, short)]
    watch: bool,
}

/// What is known, and why it is not more.
pub struct View {
    pub status: Status,
    /// Why this is only one member's view.
    pub short: Option<Error>,
}

pub async fn run(client: &Client, output: Output, arguments: &Arguments) -> Result<ExitCode, Error> {
    if arguments.watch {
        return watch::run(client, output).await;
    }
    let view = look(client, &mut None).await?;
    match output {
        Output::Table => render::print(&page(&view.status))?,
        Output::Json => render::print(&render::json(&view.status)?)?,
    }
    Ok(view.finish(output))
}

/// The group's view; where the leader does not answer, that of the member which was reached. A
/// `session` that was kept is tried first, and lost when it fails.
pub async fn look(client: &Client, session: &mut Option<Session>) -> Result<View, Error> {
    if let Some(mut kept) = session.take()
        && let Ok(status) = kept.status(client.short_deadline()).await
    {
        *session = Some(kept);
        return Ok(View { status, short: None });
    }
    let deadline = client.deadline();
    let mut reached = client.connect(deadline).await?;
    match reached.status(deadline).await {
        Ok(status) => {
            *session = Some(reached);
            Ok(View { status, short: None })
        }
        Err(short) => {
            let Some(mut status) = reached.local.take() else {
                return Err(short);
            };
            status.problems.push(format!("only {}'s own view: {short}", status.seen_by));
            Ok(View { status, short: Some(short) })
        }
    }
}

impl View {
    /// Says on standard error why this is not all, and with what code to end. In JSON the view
    /// stands alone, so that a program reads one value.
    pub fn finish(&self, output: Output) -> ExitCode {
        let no_quorum = || {
            let cause = format!("{} has no quorum", self.status.cluster);
            let next = "bring members back until a majority runs; vipd keeps the routes as they are";
            Error::new(Kind::NoQuorum, cause, next)
        };
        let lacking = match &self.short {
            Some(short) => Some(short.clone()),
            None => (self.status.state == "no-quorum").then(no_quorum),
        };
        let Some(lacking) = lacking else {
            return ExitCode::SUCCESS;
        };
        if output == Output::Table {
            lacking.report(output);
        }
        lacking.kind.exit_code()
    }
}

/// All of it, for people.
pub fn page(status: &Status) -> String {
    let mut page = headline(status);
    for problem in &status.problems {
        page.push_str(&format!("  {} {}\n", tone(Tone::Warn, "!"), clean(problem)));
    }
    for warning in &status.warnings {
        page.push_str(&format!("  {} {}\n", tone(Tone::Dim, "warning:"), clean(warning)));
    }
    page.push('\n');
    page.push_str(&member_table(status));
    page.push_str(&policy(status));
    if status.vips.iter().any(|vip| !vip.routes.is_empty()) {
        page.push('\n');
        page.push_str(&route_table(status));
    }
    if let Some(last) = &status.last_move {
        let at = tone(Tone::Dim, &last.at);
        page.push_str(&format!("\nlast move  {at}  {}\n", render::move_in_words(last)));
        page.push_str(&render::waterfall(last));
    }
    page
}

fn headline(status: &Status) -> String {
    let named = |word: &str, name: Option<&str>| match name {
        Some(name) => format!("{} {}", tone(Tone::Dim, word), clean(name)),
        None => format!("{} {}", tone(Tone::Dim, word), tone(Tone::Bad, "none")),
    };
    let mut parts = vec![
        format!("{}  {}", tone(Tone::Bold, &status.cluster), state(&status.state)),
        named("owner", status.owner.as_deref()),
        named("leader", status.leader.as_deref()),
        named("term", Some(&status.term.to_string())),
        named("epoch", Some(&status.epoch.to_string())),
    ];
    if status.route_repairs > 0 {
        parts.push(named("repairs", Some(&status.route_repairs.to_string())));
    }
    if !status.seen_by.is_empty() {
        parts.push(named("seen by", Some(&status.seen_by)));
    }
    format!("{}\n", parts.join("   "))
}

/// A group's state in its colour.
pub fn state(state: &str) -> String {
    let colour = match state {
        "steady" => Tone::Good,
        "no-quorum" => Tone::Bad,
        _ => Tone::Warn,
    };
    tone(colour, state)
}

fn member_table(status: &Status) -> String {
    let columns = [
        Column::left("MEMBER"),
        Column::left("ZONE"),
        Column::left("ROLE"),
        Column::left("HEALTH"),
        Column::left("REACHED"),
        Column::left("VIP"),
        Column::right("LAG"),
        Column::right("PRIO"),
        Column::left("ENI"),
        Column::left("VERSION"),
    ];
    let mut table = render::table(&columns, status.members.iter().map(|m| member_row(status, m)));
    for member in &status.members {
        for note in notes(member) {
            table.push_str(&format!("  {}: {}\n", clean(&member.name), tone(Tone::Warn, &note)));
        }
    }
    table
}

/// The owner's, which counts; where members differ a problem says so.
fn policy(status: &Status) -> String {
    let owner = status.members.iter().find(|m| Some(&m.name) == status.owner.as_ref());
    let Some((m, failback, min_hold_s)) = owner.and_then(|m| Some((m, m.failback?, m.min_hold_s?))) else {
        return String::new();
    };
    let said = format!("failback {failback}, min_hold_s {min_hold_s}, on_quorum_loss {}", m.on_quorum_loss);
    format!("\n{}  {}\n", tone(Tone::Dim, "policy"), clean(&said))
}

fn member_row(status: &Status, m: &Member) -> Vec<String> {
    let owner = status.owner.as_ref() == Some(&m.name);
    let health = match m.health.as_str() {
        "healthy" => Tone::Good,
        "unhealthy" => Tone::Bad,
        _ => Tone::Dim,
    };
    let reached = if m.reachable { "yes".into() } else { tone(Tone::Bad, "no") };
    let vip = match (m.vip_local, owner) {
        (true, true) => tone(Tone::Good, "yes"),
        // An address without the claim, or a claim without the address: neither should last.
        (true, false) => tone(Tone::Warn, "yes"),
        (false, true) => tone(Tone::Bad, "no"),
        (false, false) => "-".into(),
    };
    vec![
        if owner { tone(Tone::Bold, &m.name) } else { dash(&m.name) },
        dash(&m.zone),
        if m.role == "leader" { tone(Tone::Bold, &m.role) } else { dash(&m.role) },
        tone(health, &m.health),
        reached,
        vip,
        m.lag.to_string(),
        m.priority.to_string(),
        dash(&m.eni),
        dash(&m.version),
    ]
}

/// What a column has no room for.
fn notes(m: &Member) -> Vec<String> {
    let mut notes = Vec::new();
    if m.witness {
        notes.push("witness: votes, never owns".to_owned());
    }
    if m.drained {
        notes.push("drained".to_owned());
    }
    if m.quarantined && m.reachable {
        notes.push("has just started: takes no leadership yet".to_owned());
    }
    if !m.health_reason.is_empty() {
        notes.push(m.health_reason.clone());
    }
    if !m.not_eligible.is_empty() && !m.witness && !m.drained {
        notes.push(format!("may not own: {}", m.not_eligible));
    }
    notes
}

/// Every VIP in every route table, for people.
pub fn route_table(status: &Status) -> String {
    let columns = [
        Column::left("VIP"),
        Column::left("ROUTE TABLE"),
        Column::left("TARGET"),
        Column::left("MEMBER"),
        Column::left("STATE"),
        Column::left("IN SYNC"),
    ];
    let member_of = |eni: &str| {
        let member = status.members.iter().find(|m| m.eni == eni && !eni.is_empty());
        member.map_or("-".into(), |m| clean(&m.name))
    };
    let routes = || status.vips.iter().flat_map(|vip| vip.routes.iter().map(move |r| (vip, r)));
    if routes().next().is_none() {
        return "no routes known\n".into();
    }
    let rows = routes().map(|(vip, route)| {
        let target = route.target.as_deref().unwrap_or_default();
        let route_state = match route.state.as_str() {
            "active" => Tone::Good,
            "unknown" => Tone::Dim,
            _ => Tone::Bad,
        };
        vec![
            clean(&vip.address),
            clean(&route.route_table),
            dash(target),
            member_of(target),
            tone(route_state, &route.state),
            if route.in_sync { tone(Tone::Good, "yes") } else { tone(Tone::Bad, "no") },
        ]
    });
    let mut table = render::table(&columns, rows);
    for (_, route) in routes().filter(|(_, route)| !route.error.is_empty()) {
        let error = tone(Tone::Bad, &route.error);
        table.push_str(&format!("  {}: {error}\n", clean(&route.route_table)));
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use vipd::proto::Waiting;

    fn member(name: &str, role: &str) -> Member {
        Member {
            name: name.into(),
            role: role.into(),
            voter: role != "learner",
            reachable: true,
            health: "healthy".into(),
            ..Member::default()
        }
    }

    /// The page as a terminal without colours has it.
    fn plain(status: &Status) -> Vec<String> {
        page(status).lines().map(clean).collect()
    }

    /// As `rpc/picture.rs` says it of `waiting` and of `learner_for_s`.
    const WAITS: &str = "the VIP waits 8 s on az-a (policy.min_hold_s) before it goes back to az-b: az-a is unhealthy; \
                         vipctl transfer-leader --to az-b moves it now";
    const LINGERS: &str = "az-c is a learner for 75 s, and no change is under way: vipctl member promote az-c, or vipctl \
                           member remove az-c";

    #[test]
    fn a_move_that_waits_is_a_problem_in_any_state_and_said_once() {
        let waiting = Waiting { to: "az-b".into(), left_ms: 7_400, reason: "az-a is unhealthy".into() };
        let status = Status {
            cluster: "edge".into(),
            state: "steady".into(),
            owner: Some("az-a".into()),
            problems: vec![WAITS.into()],
            members: vec![member("az-a", "leader"), member("az-b", "follower")],
            waiting: Some(waiting),
            ..Status::default()
        };
        let page = plain(&status);
        assert_eq!(page[0], "edge  steady   owner az-a   leader none   term 0   epoch 0");
        assert_eq!(page[1..3], [format!("  ! {WAITS}"), String::new()]);
        assert_eq!(page.iter().filter(|line| line.contains("az-b moves it now")).count(), 1, "{page:#?}");
    }

    #[test]
    fn a_learner_that_lingers_is_a_warning_and_no_problem() {
        let learner = Member { learner_for_s: Some(75), ..member("az-c", "learner") };
        let status = Status {
            cluster: "edge".into(),
            state: "steady".into(),
            warnings: vec![LINGERS.into()],
            members: vec![member("az-a", "leader"), learner],
            ..Status::default()
        };
        let page = plain(&status);
        assert_eq!(page[1..3], [format!("  warning: {LINGERS}"), String::new()]);
        assert!(page[5].starts_with("az-c    -     learner  healthy  yes"), "{page:#?}");
        assert_eq!(page.iter().filter(|line| line.contains("75 s")).count(), 1, "{page:#?}");
    }
}
