//! SIGHUP: the file is read again, and what a running member can take over is in force once the log says so. A
//! `systemctl reload` returns earlier, with the signal: only Type=notify-reload waits for more, which systemd 252 has
//! not (docs/decisions/0028). A bad file changes nothing and stands in `status` until a good one is read (FAULTS 61).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use tokio::signal::unix::Signal;
use tokio::sync::watch;

use vipd::config::{Config, InForce};
use vipd::service::Service;
use vipd::tls::Credentials;
use vipd::vpc::ec2::Ec2;

use super::log::Filter;

/// Who has a part of the configuration that follows it.
pub struct Reloader {
    pub path: PathBuf,
    /// The judgement and the health checks follow this.
    pub in_force: watch::Sender<InForce>,
    pub cloud: Arc<Ec2>,
    /// None: without TLS.
    pub credentials: Option<Arc<Credentials>>,
    pub log: Filter,
}

impl Reloader {
    /// As long as the process lives. `now`: a SIGHUP came before there was something to reload.
    pub async fn run(self, mut hangup: Signal, now: bool, service: Service) {
        if now {
            self.reload().await;
        }
        while hangup.recv().await.is_some() {
            service.reloading().await;
            self.reload().await;
            service.ready().await;
        }
    }

    async fn reload(&self) {
        let before = self.in_force.borrow().clone();
        let after = match self.take_over(&before).await {
            Ok(after) => after,
            Err(error) => before.refuse(format!("{error:#}")),
        };
        match &after.refused {
            Some(why) => tracing::error!("the old configuration stays in force: {why}"),
            None => tracing::info!("the configuration was read again"),
        }
        if !after.restart.is_empty() {
            let keys = after.restart.join(", ");
            tracing::warn!("takes a restart, and is as it was until then: {keys}");
        }
        self.in_force.send_replace(after);
    }

    /// Nothing is changed before all that may fail has succeeded.
    async fn take_over(&self, before: &InForce) -> anyhow::Result<InForce> {
        let newer = read(&self.path).await?;
        let after = before.reload(newer);
        if let Some(credentials) = &self.credentials {
            credentials.reload().map_err(|error| anyhow::anyhow!("{error}; {}", error.next()))?;
        }
        self.log.set(after.config.log.as_deref())?;
        self.cloud.set_tables(&after.config.aws);
        Ok(after)
    }
}

/// A SIGHUP before the group is there: it is kept, and said to be. `true`: it came.
pub async fn too_early(service: &Service) -> bool {
    service.reloading().await;
    tracing::warn!(
        "SIGHUP: this member belongs to no running group yet; the file is read again when it does, and [[members]] by a \
         restart alone (systemctl restart vipd)"
    );
    service.ready().await;
    true
}

/// On a thread of its own: a file system that hangs stops no heartbeat.
async fn read(path: &Path) -> anyhow::Result<Config> {
    let path = path.to_path_buf();
    let read = tokio::task::spawn_blocking(move || Config::load(&path));
    Ok(read.await.context("the file was not read")??)
}
