//! The log: to standard error, by a filter that a reload may change.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload;

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

/// From here on the process logs.
pub fn to_stderr(format: Format, configured: Option<&str>) -> Result<Filter, ParseError> {
    let to = tracing_subscriber::fmt().with_env_filter(wanted(configured)?).with_writer(std::io::stderr);
    match format {
        Format::Text => {
            use std::io::IsTerminal as _;
            let plain = !std::io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some();
            let to = to.with_ansi(!plain).with_target(false).with_filter_reloading();
            let handle = to.reload_handle();
            to.init();
            Ok(Filter(Box::new(move |filter| handle.reload(filter))))
        }
        Format::Json => {
            let to = to.json().with_filter_reloading();
            let handle = to.reload_handle();
            to.init();
            Ok(Filter(Box::new(move |filter| handle.reload(filter))))
        }
    }
}
