//! The files that HAProxy and vipd read.

use std::fmt::Write as _;

use anyhow::{Context, bail};

use crate::spec::{EC2_ADDRESS, EC2_PORT, Spec, VIP_PORT, Zone};

/// HAProxy answers by itself with its member's name: what the client reads is who owns the VIP.
pub fn haproxy(spec: &Spec, zone: &Zone) -> String {
    let member = &zone.member;
    let socket = spec.member_dir(zone).join("haproxy.sock");
    format!(
        r#"global
    nbthread 1
    maxconn 4000
    stats socket {socket} mode 660 level admin

defaults
    mode http
    timeout connect 1s
    timeout client 10s
    timeout server 10s
    timeout http-request 5s

frontend vip
    bind *:{VIP_PORT}{v6}
    http-request return status 200 content-type text/plain string "{member}\n"

frontend health
    bind 127.0.0.1:8404
    http-request return status 200 content-type text/plain string "ok\n" if {{ path /healthz }}
    http-request return status 404
"#,
        socket = socket.display(),
        v6 = if spec.has_v6() { format!("\n    bind :::{VIP_PORT} v6only") } else { String::new() }
    )
}

/// `vipd.toml` as sections of raw `key = value`, so that any key can be set from outside.
struct Toml {
    sections: Vec<(String, Vec<(String, String)>)>,
}

impl Toml {
    fn set(&mut self, section: &str, key: &str, value: &str) {
        let index = match self.sections.iter().position(|(name, _)| name == section) {
            Some(index) => index,
            None => {
                self.sections.push((section.into(), Vec::new()));
                self.sections.len() - 1
            }
        };
        let Some((_, keys)) = self.sections.get_mut(index) else { return };
        match keys.iter_mut().find(|(k, _)| k == key) {
            Some(_) if value.is_empty() => keys.retain(|(k, _)| k != key),
            None if value.is_empty() => {}
            Some(old) => old.1 = value.into(),
            None => keys.push((key.into(), value.into())),
        }
    }

    fn print(&self) -> String {
        let mut out = String::new();
        for (section, keys) in self.sections.iter().filter(|(_, keys)| !keys.is_empty()) {
            if section.starts_with("members.") {
                out.push_str("\n[[members]]\n");
            } else if !section.is_empty() {
                let _ = writeln!(out, "\n[{section}]");
            }
            for (key, value) in keys {
                let _ = writeln!(out, "{key} = {value}");
            }
        }
        out
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn list<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let all: Vec<_> = texts.into_iter().map(|t| quoted(t)).collect();
    format!("[{}]", all.join(", "))
}

/// One member's `vipd.toml`.
pub fn vipd(spec: &Spec, zone: &Zone) -> anyhow::Result<String> {
    let dir = spec.member_dir(zone);
    let path = |name: &str| quoted(&dir.join(name).display().to_string());
    let mut toml = Toml { sections: Vec::new() };
    toml.set("", "cluster", &quoted(&spec.cluster));
    toml.set("", "member", &quoted(&zone.member));
    toml.set("", "data_dir", &path("data"));
    toml.set("peer", "listen", &quoted(&format!("{}:7400", zone.ip)));
    toml.set("admin", "listen", &quoted(&format!("{}:7401", zone.ip)));
    toml.set("admin", "socket", &path("admin.sock"));
    for member in &spec.zones {
        let section = format!("members.{}", member.member);
        toml.set(&section, "name", &quoted(&member.member));
        toml.set(&section, "peer", &quoted(&format!("{}:7400", member.ip)));
        toml.set(&section, "admin", &quoted(&format!("{}:7401", member.ip)));
        toml.set(&section, "zone", &quoted(&member.zone));
    }
    toml.set("vip", "addresses", &list(&spec.vips));
    toml.set("vip", "interface", &quoted("lo"));
    let options = &spec.vipd;
    let tables: Vec<String> = match options.route_tables.as_slice() {
        [] => spec.tables.iter().map(|t| t.id.clone()).collect(),
        given => given.to_vec(),
    };
    toml.set("aws", "route_tables", &list(&tables));
    let own = format!("http://{EC2_ADDRESS}:{EC2_PORT}");
    toml.set("aws", "endpoint_url", &quoted(options.endpoint_url.as_deref().unwrap_or(&own)));
    if let Some((_, eni)) = options.enis.iter().find(|(member, _)| *member == zone.member) {
        toml.set("aws", "eni", &quoted(eni));
    }
    if let Some(profile) = &options.profile {
        toml.set("raft", "profile", &quoted(profile));
    }
    if let Some(ms) = options.heartbeat_ms {
        toml.set("raft", "heartbeat_ms", &ms.to_string());
    }
    if let Some((min, max)) = options.election_ms {
        toml.set("raft", "election_ms", &format!("[{min}, {max}]"));
    }
    toml.set("health", "haproxy_socket", &path("haproxy.sock"));
    toml.set("health", "http", &quoted("http://127.0.0.1:8404/healthz"));
    toml.set("health", "interval_ms", "200");
    if !spec.is_insecure() {
        let (cert, key) = (format!("{}.pem", zone.member), format!("{}.key", zone.member));
        toml.set("tls", "ca", &quoted(&spec.pki_dir().join("ca.pem").display().to_string()));
        toml.set("tls", "cert", &path(&cert));
        toml.set("tls", "key", &path(&key));
        toml.set("tls", "crl", &quoted(&spec.pki_dir().join("crl.pem").display().to_string()));
    }
    toml.set("metrics", "listen", &quoted("127.0.0.1:9407"));
    for text in &options.sets {
        apply(&mut toml, spec, zone, text)?;
    }
    Ok(toml.print())
}

/// `[MEMBER:]section.key=value`, `key=value` at the top, `members.az-a.priority=200`; an empty value takes the key out.
fn apply(toml: &mut Toml, spec: &Spec, zone: &Zone, text: &str) -> anyhow::Result<()> {
    let (path, value) =
        text.split_once('=').with_context(|| format!("--set wants section.key=value, not {text:?}"))?;
    let path = match path.split_once(':') {
        Some((member, path)) => {
            if spec.zone(member)?.member != zone.member {
                return Ok(());
            }
            path
        }
        None => path,
    };
    let (section, key) = path.trim().rsplit_once('.').unwrap_or(("", path.trim()));
    if key.is_empty() {
        bail!("--set wants section.key=value, not {text:?}");
    }
    toml.set(section, key, &raw(value.trim()));
    Ok(())
}

/// A value that is not TOML by itself is meant as a string.
fn raw(value: &str) -> String {
    let number = value.replace('_', "").parse::<f64>().is_ok();
    let toml = value.is_empty()
        || number
        || value == "true"
        || value == "false"
        || value.starts_with(['[', '"', '\'', '{']);
    if toml { value.into() } else { quoted(value) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn lab(sets: &[&str]) -> Spec {
        let mut spec = Spec::new("vip", Path::new("/run/x"), 3, 3).unwrap();
        spec.vipd.sets = sets.iter().map(|s| (*s).into()).collect();
        spec
    }

    #[test]
    fn every_member_has_its_own_file() {
        let spec = lab(&[]);
        let text = vipd(&spec, &spec.zones[1]).unwrap();
        assert!(
            text.starts_with("cluster = \"edge\"\nmember = \"az-b\"\ndata_dir = \"/run/x/az-b/data\"\n"),
            "{text}"
        );
        assert_eq!(text.matches("[[members]]").count(), 3);
        assert!(text.contains("[peer]\nlisten = \"10.0.2.10:7400\"\n"), "{text}");
        assert!(text.contains("route_tables = [\"rtb-0a\", \"rtb-0b\", \"rtb-0c\"]\nendpoint_url = \"http://10.0.0.2:5000\"\n"), "{text}");
        assert!(!text.contains("eni") && !text.contains("region") && !text.contains("[raft]"), "{text}");
    }

    #[test]
    fn any_key_can_be_set() {
        let spec = lab(&[
            "aws.create_missing=true",
            "aws.source_dest_check=fix",
            "raft.election_ms=[1000, 2000]",
            "members.az-b.priority=200",
            "b:vip.lifetime_s=2",
            "az-a:health.http=",
        ]);
        let text = vipd(&spec, &spec.zones[0]).unwrap();
        assert!(text.contains("create_missing = true\nsource_dest_check = \"fix\"\n"), "{text}");
        assert!(text.contains("[raft]\nelection_ms = [1000, 2000]\n"), "{text}");
        assert!(text.contains("zone = \"eu-west-1b\"\npriority = 200\n"), "{text}");
        assert!(!text.contains("lifetime_s") && !text.contains("http = "), "{text}");
        assert!(vipd(&spec, &spec.zones[1]).unwrap().contains("lifetime_s = 2"));
        assert!(vipd(&lab(&["nonsense"]), &spec.zones[0]).is_err());
    }
}
