//! `vipctl status --watch`: the same look, again and again.

use std::process::ExitCode;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use vipd::proto::Status;

use crate::Output;
use crate::client::Client;
use crate::error::{Error, Kind};
use crate::render::{self, Tone, clean, dash, tone};
use crate::status::{self, View};

// Quick enough to see a move happen, slow enough that ten watchers cost a member nothing.
const EVERY: Duration = Duration::from_millis(500);

/// Where the looks go.
enum Screen {
    Terminal,
    /// One line for each change.
    Lines,
    /// One JSON value for each change.
    JsonLines,
}

/// Looks until ^C, which ends it well; a lost endpoint is shown and tried again.
pub async fn run(client: &Client, output: Output) -> Result<ExitCode, Error> {
    let screen = match output {
        Output::Json => Screen::JsonLines,
        Output::Table if render::on_a_terminal() => Screen::Terminal,
        Output::Table => Screen::Lines,
    };
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    let mut session = None;
    let mut shown = Shown::default();
    loop {
        let look = async {
            ticks.tick().await;
            status::look(client, &mut session).await
        };
        let look = tokio::select! {
            look = look => look,
            interrupted = &mut interrupted => return match interrupted {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(error) => Err(Error::new(
                    Kind::Failed,
                    format!("cannot wait for ^C: {error}"),
                    "use vipctl status without --watch",
                )),
            },
        };
        shown.show(&screen, look)?;
    }
}

#[derive(Default)]
struct Shown {
    last: Option<Status>,
    /// What was printed last, by which a change is known.
    key: String,
}

impl Shown {
    fn show(&mut self, screen: &Screen, look: Result<View, Error>) -> Result<(), Error> {
        match screen {
            Screen::Terminal => {
                let page = self.page(look);
                if self.key.is_empty() {
                    // Room for the page: the shell's earlier lines scroll away, none is lost.
                    render::print_bytes(b"\x1b[2J")?;
                    self.key = "drawn".into();
                }
                render::redraw(&page)
            }
            Screen::Lines => {
                let lines = |view: View| (line(&lasting(&view.status)), line(&view.status));
                let twice = |error: &Error| (error_line(error), error_line(error));
                let (key, line) = look.map_or_else(|error| twice(&error), lines);
                self.print_if_new(key, &line)
            }
            Screen::JsonLines => match look {
                Ok(View { status, .. }) => {
                    self.print_if_new(render::json_line(&lasting(&status))?, &render::json_line(&status)?)
                }
                Err(error) => self.print_if_new(error.as_json(), &error.as_json()),
            },
        }
    }

    /// The newest page; where no one answers, why, over the last one that was known.
    fn page(&mut self, look: Result<View, Error>) -> String {
        match look {
            Ok(View { status, .. }) => {
                let page = status::page(&status);
                self.last = Some(status);
                page
            }
            Err(error) => {
                let known =
                    self.last.as_ref().map(|status| format!("\nlast known:\n\n{}", status::page(status)));
                format!("{}{}", error.in_words(), known.unwrap_or_default())
            }
        }
    }

    fn print_if_new(&mut self, key: String, text: &str) -> Result<(), Error> {
        if key == self.key {
            return Ok(());
        }
        self.key = key;
        render::print(text)
    }
}

fn error_line(error: &Error) -> String {
    format!("{} {}; next: {}\n", tone(Tone::Bad, "error:"), clean(&error.cause), clean(&error.next))
}

/// A status without what changes all the time by itself.
fn lasting(status: &Status) -> Status {
    let mut status = Status { lease_remaining_ms: None, ..status.clone() };
    for member in &mut status.members {
        member.applied = 0;
        member.lag = 0;
        member.cloud_seen_ms = None;
        member.round_trip_ms = None;
        member.round_trip_least_ms = None;
        member.learner_for_s = member.learner_for_s.map(|_| 0);
        member.rights.iter_mut().for_each(|right| right.age_ms = 0);
    }
    status.waiting.iter_mut().for_each(|w| w.left_ms = 0);
    for said in status.problems.iter_mut().chain(&mut status.warnings) {
        *said = without_times(said);
    }
    status
}

/// Without how long something took or will take: `63 ms`, `7 s`.
fn without_times(text: &str) -> String {
    let is_time = |word: &str, next: Option<&&str>| {
        let unit = next.map(|unit| unit.trim_end_matches([',', ':', ';', '.']));
        word.parse::<f64>().is_ok() && matches!(unit, Some("ms" | "s"))
    };
    let mut words = text.split(' ').peekable();
    let mut kept = Vec::new();
    while let Some(word) = words.next() {
        if !is_time(word, words.peek()) {
            kept.push(word);
        }
    }
    kept.join(" ")
}

/// `steady owner=az-b leader=az-b term=7 epoch=93 members=3/3 routes=2/2`, and the problems.
fn line(status: &Status) -> String {
    let routes = || status.vips.iter().flat_map(|vip| &vip.routes);
    let in_sync = routes().filter(|route| route.in_sync).count();
    let well = status.members.iter().filter(|m| m.reachable && m.health != "unhealthy").count();
    let mut line = format!(
        "{} owner={} leader={} term={} epoch={} members={well}/{} routes={in_sync}/{}",
        status::state(&status.state),
        dash(status.owner.as_deref().unwrap_or_default()),
        dash(status.leader.as_deref().unwrap_or_default()),
        status.term,
        status.epoch,
        status.members.len(),
        routes().count(),
    );
    let drained: Vec<String> = status.members.iter().filter(|m| m.drained).map(|m| clean(&m.name)).collect();
    if !drained.is_empty() {
        line.push_str(&format!(" drained={}", drained.join(",")));
    }
    for problem in &status.problems {
        line.push_str("; ");
        line.push_str(&clean(problem));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use vipd::proto::{Member, Right, Waiting};

    use super::*;

    /// Every field is named: a new one is to be sorted into what ticks and what lasts.
    fn seen(tick: u64, health: &str) -> Status {
        Status {
            cluster: "edge".to_owned(),
            term: 7,
            leader: Some("az-a".to_owned()),
            owner: Some("az-a".to_owned()),
            state: "steady".to_owned(),
            problems: vec![
                format!("a round trip from az-a to az-b takes {tick} ms, and the timings wait 30 ms"),
                format!("the VIP waits {tick} s on az-a: vipctl transfer-leader"),
            ],
            warnings: Vec::new(),
            changing: false,
            members: vec![member(tick, health)],
            vips: Vec::new(),
            last_move: None,
            seen_by: "az-a".to_owned(),
            epoch: 93,
            route_repairs: 0,
            lease_remaining_ms: Some(tick),
            paused: false,
            paused_since: None,
            waiting: Some(Waiting { to: "az-b".to_owned(), left_ms: tick, reason: "failback".to_owned() }),
        }
    }

    fn member(tick: u64, health: &str) -> Member {
        let rights = vec![Right {
            route_table: "rtb-0a".to_owned(),
            allowed: true,
            age_ms: tick,
            error: String::new(),
        }];
        Member {
            name: "az-a".to_owned(),
            zone: "eu-west-1a".to_owned(),
            role: "leader".to_owned(),
            voter: true,
            witness: false,
            drained: false,
            reachable: true,
            health: health.to_owned(),
            health_reason: String::new(),
            eni: "eni-0a".to_owned(),
            peer: "10.0.1.10:7400".to_owned(),
            admin: String::new(),
            applied: tick,
            lag: tick,
            vip_local: true,
            version: "0.1.0".to_owned(),
            priority: 100,
            lease_ms: 300,
            incarnation: "1f".to_owned(),
            not_eligible: String::new(),
            quarantined: false,
            cloud_error: String::new(),
            cloud_seen_ms: Some(tick),
            rights,
            configured_vips: Vec::new(),
            configured_tables: Vec::new(),
            timings: String::new(),
            config_refused: String::new(),
            restart_for: Vec::new(),
            certificate_expires: None,
            certificate_days: None,
            round_trip_ms: u32::try_from(tick).ok().map(f64::from),
            failback: Some(false),
            min_hold_s: Some(10),
            on_quorum_loss: "hold".to_owned(),
            learner_for_s: Some(tick),
            round_trip_least_ms: u32::try_from(tick).ok().map(f64::from),
        }
    }

    #[test]
    fn what_ticks_by_itself_is_no_change() {
        assert_eq!(lasting(&seen(1, "healthy")), lasting(&seen(2, "healthy")));
        assert_ne!(lasting(&seen(1, "healthy")), lasting(&seen(2, "unhealthy")));
        assert_eq!(line(&lasting(&seen(1, "healthy"))), line(&lasting(&seen(2, "healthy"))));
        assert_eq!(
            without_times("az-a waits 7 s, then 1 of 3 in rtb-1"),
            "az-a waits s, then 1 of 3 in rtb-1"
        );
    }
}
