//! What the machine is, by what its firmware says of itself. Nothing is asked over a network: a machine that is no cloud's is never
//! made to wait for one.

use super::config::NoticeConfig;
use muster_core::model::notice::NoticeSource;
use std::path::Path;

/// Azure's mark on its machines; others of the same vendor are somebody's own.
const AZURE_TAG: &str = "7783-7084-3265-9085-8269-3286-77";

/// The sources of this machine: those that are listed, else what it is.
#[must_use]
pub fn sources(config: &NoticeConfig) -> Vec<NoticeSource> {
    sources_under(config, Path::new("/"))
}

fn sources_under(config: &NoticeConfig, root: &Path) -> Vec<NoticeSource> {
    let mut sources = match &config.sources {
        Some(listed) => listed.clone(),
        None => {
            let systemd = is_systemd(root).then_some(NoticeSource::Systemd);
            let file = config.file.is_some().then_some(NoticeSource::File);
            cloud(root).into_iter().chain(systemd).chain(file).collect()
        }
    };
    sources.sort_unstable();
    sources.dedup();
    sources
}

/// Whose machine it is.
fn cloud(root: &Path) -> Option<NoticeSource> {
    let says = |name: &str| {
        let text = std::fs::read_to_string(root.join("sys/class/dmi/id").join(name)).unwrap_or_default();
        text.trim().to_owned()
    };
    let is_amazon = |name| says(name).to_ascii_lowercase().contains("amazon");
    // Machines on Xen have its name as their vendor.
    if is_amazon("sys_vendor") || is_amazon("bios_vendor") || is_amazon("bios_version") {
        Some(NoticeSource::Aws)
    } else if says("sys_vendor") == "Google" || says("product_name") == "Google Compute Engine" {
        Some(NoticeSource::Gcp)
    } else if says("chassis_asset_tag") == AZURE_TAG {
        Some(NoticeSource::Azure)
    } else {
        None
    }
}

/// Whether systemd runs it, with a bus to be told over.
fn is_systemd(root: &Path) -> bool {
    root.join("run/systemd/system").is_dir() && root.join("run/dbus/system_bus_socket").exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use NoticeSource::{Aws, Azure, File, Gcp, Systemd};

    fn machine(facts: &[(&str, &str)]) -> Vec<NoticeSource> {
        let root = tempfile::tempdir().unwrap();
        let dmi = root.path().join("sys/class/dmi/id");
        std::fs::create_dir_all(&dmi).unwrap();
        for (name, text) in facts {
            std::fs::write(dmi.join(name), format!("{text}\n")).unwrap();
        }
        sources_under(&NoticeConfig::default(), root.path())
    }

    #[test]
    fn the_firmware_tells_whose_machine_it_is() {
        assert_eq!(machine(&[("sys_vendor", "Amazon EC2"), ("product_name", "p4d.24xlarge")]), [Aws]);
        assert_eq!(machine(&[("sys_vendor", "Xen"), ("bios_version", "4.11.amazon")]), [Aws]);
        assert_eq!(machine(&[("sys_vendor", "Google"), ("product_name", "Google Compute Engine")]), [Gcp]);
        let azure = [("sys_vendor", "Microsoft Corporation"), ("chassis_asset_tag", AZURE_TAG)];
        assert_eq!(machine(&azure), [Azure]);
        // A machine on one's own Hyper-V is nobody's cloud; nor is one that says nothing.
        assert_eq!(
            machine(&[("sys_vendor", "Microsoft Corporation"), ("product_name", "Virtual Machine")]),
            []
        );
        assert_eq!(machine(&[]), []);
    }

    #[test]
    fn what_is_listed_counts_alone_and_a_file_counts_unlisted() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
        std::fs::create_dir_all(root.path().join("run/dbus")).unwrap();
        std::fs::write(root.path().join("run/dbus/system_bus_socket"), "").unwrap();
        let with = |config: NoticeConfig| sources_under(&config, root.path());
        let file = NoticeConfig { file: Some("/x".into()), ..NoticeConfig::default() };
        assert_eq!(with(file), [Systemd, File]);
        let listed = |sources: &[NoticeSource]| NoticeConfig {
            sources: Some(sources.to_vec()),
            ..NoticeConfig::default()
        };
        assert_eq!(with(listed(&[Gcp, Aws, Gcp])), [Aws, Gcp]);
        assert_eq!(with(listed(&[])), []);
    }
}
