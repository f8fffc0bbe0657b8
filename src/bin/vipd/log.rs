//! The log: to standard error, by a filter that a reload may change.

use std::io::{self, Write};

use clap::ValueEnum;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::fmt::format::DefaultFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt, reload};

#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    Text,
    Json,
}

/// openraft says at INFO what each message was; its warnings name a peer that is down each time. Who wants that asks
/// for it by name: what follows goes before.
const QUIETER: &str = "openraft=error,sled=warn";

const USUAL: &str = "info";

const ENV: &str = "VIPD_LOG";

/// What is logged: by `VIPD_LOG`, else by `log.filter`, else what is usual.
pub struct Filter(Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>);

impl Filter {
    /// Changes it, unless the environment rules.
    pub fn set(&self, configured: Option<&str>) -> anyhow::Result<()> {
        if std::env::var_os(ENV).is_some() {
            return Ok(());
        }
        Ok((self.0)(wanted(configured)?)?)
    }
}

fn wanted(configured: Option<&str>) -> Result<EnvFilter, ParseError> {
    let text = std::env::var(ENV).ok();
    let text = text.as_deref().or(configured).unwrap_or(USUAL);
    EnvFilter::builder().parse(format!("{QUIETER},{text}"))
}

/// Whether it may be logged, whatever the filter says. At TRACE the AWS SDK writes out its requests to IMDS and the
/// answers, and with them the token by which whoever reads it gets the role's credentials.
fn tells_no_secret(of: &Metadata<'_>) -> bool {
    *of.level() < Level::TRACE || !of.target().starts_with("aws_")
}

/// One line for each event, whatever texts of others are in it: what would begin another is written out.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    /// An event comes in one piece (`tracing_subscriber::fmt`), its end with it.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let (line, end) = event.split_at(event.len() - usize::from(event.ends_with(b"\n")));
        if line.iter().any(|byte| b"\n\r".contains(byte)) {
            let mut one = Vec::with_capacity(event.len() + 8);
            for byte in line {
                match byte {
                    b'\n' => one.extend(b"\\n"),
                    b'\r' => one.extend(b"\\r"),
                    other => one.push(*other),
                }
            }
            one.extend(end);
            self.0.write_all(&one)?;
        } else {
            self.0.write_all(event)?;
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Writes each event to what `to` gives, in one line.
fn lines<S, W: Write>(
    to: impl Fn() -> W + 'static,
) -> fmt::Layer<S, DefaultFields, fmt::format::Format, impl Fn() -> Lines<W>>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    fmt::layer().with_writer(move || Lines(to()))
}

/// From here on the process logs.
pub fn to_stderr(format: Format, configured: Option<&str>) -> Result<Filter, ParseError> {
    use io::IsTerminal as _;
    let (filter, handle) = reload::Layer::new(wanted(configured)?);
    let to = tracing_subscriber::registry().with(filter).with(filter_fn(tells_no_secret));
    let line = lines(io::stderr);
    match format {
        Format::Text => {
            let plain = !io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some();
            to.with(line.with_ansi(!plain).with_target(false)).init();
        }
        Format::Json => to.with(line.json()).init(),
    }
    Ok(Filter(Box::new(move |filter| handle.reload(filter))))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn fault_65_an_event_is_one_line_whatever_is_in_it() {
        let sink = Sink::default();
        let to = sink.clone();
        let plain = lines(move || to.clone()).with_ansi(false).without_time();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(plain), || {
            tracing::warn!(by = %"az-b\r\nERROR forged", "not taken in yet: no\n INFO this member owns the VIP");
            tracing::warn!("the next one");
        });
        let said = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        let told: Vec<&str> = said.split(['\n', '\r']).collect();
        assert_eq!(told.len(), 3, "{said}");
        assert!(told[0].ends_with(r"no\n INFO this member owns the VIP by=az-b\r\nERROR forged"), "{said}");
        assert!(told[1].ends_with("the next one") && told[2].is_empty(), "{said}");
    }
}
