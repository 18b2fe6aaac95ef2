//! Starts what the configuration names as sources.

use std::sync::Arc;

use tokio::sync::watch;

use crate::edge::config::ftp_fetch::FtpFetchConfig;
use crate::edge::config::http_pull::HttpPullConfig;
use crate::edge::config::sql::SqlConfig;
use crate::edge::config::{Config, SourceKind};
use crate::edge::connectors::Connectors;
use crate::edge::door::Door;
use crate::edge::folder::{self, FolderSource};
use crate::edge::ftp;
use crate::edge::ftp_fetch;
use crate::edge::http_pull;
use crate::edge::mqtt_source;
use crate::edge::rows::Rows;
use crate::edge::sql;
use crate::shell::clock::Clock;

/// Starts every configured source; one that fails stops no other.
pub(super) fn start_connectors(
    config: &Config,
    door: &Arc<Door>,
    clock: &Clock,
    stop: &watch::Receiver<bool>,
) -> Connectors {
    let mut connectors = Connectors::new(Arc::clone(door), clock.clone(), stop.clone());
    for source in &config.sources {
        match &source.kind {
            SourceKind::Folder(folder) => {
                let watched = FolderSource {
                    name: source.name.clone(),
                    dataset: source.dataset.clone(),
                    folder: folder.clone(),
                    inotify: true,
                };
                let (door, clock) = (Arc::clone(door), clock.clone());
                connectors.spawn(&source.name, move |post| {
                    let (door, clock) = (Arc::clone(&door), clock.clone());
                    let stop = post.stop_signal();
                    let watching = folder::watch(watched.clone(), door, clock, stop);
                    async {
                        watching.await;
                        Ok(())
                    }
                });
            }
            SourceKind::Ftp(config) => {
                let (config, door) = (config.clone(), Arc::clone(door));
                connectors.spawn(&source.name, move |post| {
                    let stop = post.stop_signal();
                    ftp::serve(config.clone(), Arc::clone(&door), post, stop)
                });
            }
            SourceKind::Sql(settings) => {
                let (name, dataset) = (source.name.clone(), source.dataset.clone());
                let rows = Rows::new(Arc::clone(door), name, dataset);
                let settings = Arc::new(SqlConfig::clone(settings));
                connectors.spawn(&source.name, move |post| {
                    sql::poll(Arc::clone(&settings), rows.clone(), post)
                });
            }
            SourceKind::FtpFetch(settings) => {
                let (name, dataset) = (source.name.clone(), source.dataset.clone());
                let rows = Rows::new(Arc::clone(door), name.clone(), dataset.clone());
                let settings = FtpFetchConfig::clone(settings);
                let place = FolderSource {
                    name,
                    dataset,
                    folder: settings.folder.clone(),
                    inotify: false,
                };
                connectors.spawn(&source.name, move |post| {
                    ftp_fetch::fetch(settings.clone(), place.clone(), rows.clone(), post)
                });
            }
            SourceKind::HttpPull(pull) => {
                let (name, dataset) = (source.name.clone(), source.dataset.clone());
                let rows = Rows::new(Arc::clone(door), name, dataset);
                let pull = HttpPullConfig::clone(pull);
                connectors.spawn(&source.name, move |post| {
                    http_pull::pull(pull.clone(), rows.clone(), post)
                });
            }
            SourceKind::Mqtt(mqtt) => {
                let rows = Rows::new(
                    Arc::clone(door),
                    source.name.clone(),
                    source.dataset.clone(),
                );
                let (mqtt, box_id) = (mqtt.clone(), config.box_id.clone());
                connectors.spawn(&source.name, move |post| {
                    mqtt_source::listen(mqtt.clone(), box_id.clone(), rows.clone(), post)
                });
            }
        }
    }
    connectors
}
