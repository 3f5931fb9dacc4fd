//! A controller and three nodes of Slurm on the loopback interface, with munge.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, ensure};

use super::{Demo, SHARES, kill, text, wait};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const PROGRAMS: [&str; 5] = ["munged", "slurmctld", "slurmd", "sbatch", "scontrol"];

/// The demo as a job array, while one node is lost and one is drained.
pub(super) fn run(demo: &Demo, folder: &Path) -> Result<()> {
    if let Some(missing) = PROGRAMS.iter().find(|program| find(program).is_none()) {
        println!("slurm: skipped, because there is no {missing} (Debian: slurm-wlm, munge)");
        return Ok(());
    }
    demo.forget()?;
    let cluster = Cluster::start(folder)?;
    let shares = SHARES.to_string();
    let mut launch = demo.command(&["launch", "slurm", "--shards", &shares, "--wait"]);
    launch.args(["--", "--no-register", "--quiet"]).env("SLURM_CONF", &cluster.config);
    let launched = launch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let lost = wait("a share on the first node", || {
        demo.at_work(|variable| variable == "SLURMD_NODENAME=n1").first().copied()
    })?;
    cluster.scontrol(&["update", "NodeName=n2", "State=DRAIN", "Reason=test"])?;
    cluster.lose("n1", lost)?;
    let output = launched.wait_with_output()?;
    demo.is_as_expected(&output)?;
    let log = fs::read_to_string(folder.join("slurmctld.log")).unwrap_or_default();
    ensure!(log.contains("requeue"), "no share was queued again; nothing was tried");
    println!(
        "slurm: {SHARES} shares, a node lost in the middle of one, another drained: as on one machine"
    );
    Ok(())
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian has daemons in sbin, which is not on everybody's path.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Its daemons end with it.
struct Cluster {
    config: PathBuf,
    daemons: Vec<(&'static str, Child)>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for (_, daemon) in &mut self.daemons {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

impl Cluster {
    fn start(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let config = folder.join("slurm.conf");
        let key = folder.join("munge.key");
        fs::write(&key, std::array::from_fn::<u8, 64, _>(|place| place as u8 ^ 0x5a))?;
        private(folder, 0o755)?;
        private(&key, 0o400)?;
        fs::write(&config, configuration(folder)?)?;
        let mut cluster = Self { config, daemons: Vec::new() };
        let socket = folder.join("munge.sock");
        let file = |name: &str| folder.join(name).display().to_string();
        let munged = [
            "--foreground".to_owned(),
            "--force".to_owned(),
            format!("--key-file={}", key.display()),
            format!("--socket={}", socket.display()),
            format!("--pid-file={}", file("munged.pid")),
            format!("--log-file={}", file("munged.log")),
            format!("--seed-file={}", file("munged.seed")),
        ];
        cluster.daemon("munged", "munged", &munged)?;
        wait("munge's socket", || socket.exists().then_some(()))?;
        let config = cluster.config.display().to_string();
        cluster.daemon(
            "slurmctld",
            "slurmctld",
            &["-D", "-c", "-f", &config].map(str::to_owned),
        )?;
        for node in NODES {
            fs::create_dir_all(folder.join(format!("spool-{node}")))?;
            let arguments = ["-D", "-f", &config, "-N", node].map(str::to_owned);
            cluster.daemon(node, "slurmd", &arguments)?;
        }
        wait("idle nodes", || {
            let nodes = cluster.scontrol(&["show", "nodes", "--oneliner"]).unwrap_or_default();
            (nodes.matches("State=IDLE ").count() == NODES.len()).then_some(())
        })?;
        Ok(cluster)
    }

    fn daemon(&mut self, name: &'static str, program: &str, arguments: &[String]) -> Result<()> {
        let path = find(program).with_context(|| format!("there is no {program}"))?;
        let daemon = Command::new(path)
            .args(arguments)
            .env("SLURM_CONF", &self.config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {program}"))?;
        self.daemons.push((name, daemon));
        Ok(())
    }

    fn scontrol(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new("scontrol")
            .args(arguments)
            .env("SLURM_CONF", &self.config)
            .output()
            .context("cannot start scontrol")?;
        ensure!(output.status.success(), "scontrol {}: {}", arguments.join(" "), text(&output));
        Ok(text(&output))
    }

    /// A node loses its power: its daemon, the keeper of its job, and the job.
    fn lose(&self, node: &str, job: u32) -> Result<()> {
        let daemon = self.daemons.iter().find(|(name, _)| *name == node);
        let keeper = parent(job);
        kill(daemon.context("no such node")?.1.id());
        keeper.into_iter().chain([job]).for_each(kill);
        // The controller would find out by itself, after some time.
        thread::sleep(std::time::Duration::from_millis(200));
        self.scontrol(&["update", &format!("NodeName={node}"), "State=DOWN", "Reason=lost"])?;
        // It would start what it has queued again after two minutes. Of tasks that have begun it says that it cannot.
        let _ = self.scontrol(&["update", "JobId=1", "StartTime=now"]);
        Ok(())
    }
}

fn parent(process: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
}

#[cfg(unix)]
fn private(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}

#[cfg(not(unix))]
fn private(_path: &Path, _mode: u32) -> Result<()> {
    Ok(())
}

fn configuration(folder: &Path) -> Result<String> {
    let host = fs::read_to_string("/proc/sys/kernel/hostname").context("this is no Linux")?;
    let (host, folder) = (host.trim(), folder.display());
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let mut text = format!(
        "ClusterName=detgate\nSlurmctldHost={host}(127.0.0.1)\nSlurmctldPort=26817\nSlurmUser={user}\n\
         SlurmdUser={user}\nAuthType=auth/munge\nAuthInfo=socket={folder}/munge.sock\nCredType=cred/munge\n\
         StateSaveLocation={folder}\nSlurmdSpoolDir={folder}/spool-%n\nSlurmctldPidFile={folder}/slurmctld.pid\n\
         SlurmdPidFile={folder}/slurmd-%n.pid\nSlurmctldLogFile={folder}/slurmctld.log\n\
         SlurmdLogFile={folder}/slurmd-%n.log\nProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n\
         SelectType=select/cons_tres\nSelectTypeParameters=CR_CPU\nSwitchType=switch/none\nMpiDefault=none\n\
         ReturnToService=0\nJobRequeue=1\nSchedulerParameters=batch_sched_delay=0,sched_interval=1\n"
    );
    for (number, node) in NODES.iter().enumerate() {
        let port = 26821 + number;
        text += &format!(
            "NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=1 State=UNKNOWN\n"
        );
    }
    Ok(text + "PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n")
}
