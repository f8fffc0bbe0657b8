//! The log: to standard error, by a filter that a reload may change.

use clap::ValueEnum;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt as _;
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

/// From here on the process logs.
pub fn to_stderr(format: Format, configured: Option<&str>) -> Result<Filter, ParseError> {
    use std::io::IsTerminal as _;
    let (filter, handle) = reload::Layer::new(wanted(configured)?);
    let to = tracing_subscriber::registry().with(filter).with(filter_fn(tells_no_secret));
    let line = fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Text => {
            let plain = !std::io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some();
            to.with(line.with_ansi(!plain).with_target(false)).init();
        }
        Format::Json => to.with(line.json()).init(),
    }
    Ok(Filter(Box::new(move |filter| handle.reload(filter))))
}
