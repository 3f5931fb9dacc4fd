//! Three nodes of Ray on this machine, one CPU each.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Demo, SHARES, wait};

/// Starts the nodes and says where; each line that it reads costs it a node; ends with its input.
const CLUSTER: &str = r#"
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
others = [cluster.add_node(num_cpus=1) for _ in range(2)]
cluster.wait_for_nodes()
print(f"address {cluster.address}", flush=True)
for line in sys.stdin:
    cluster.remove_node(others.pop(), allow_graceful=False)
cluster.shutdown()
"#;

/// The demo as tasks, while a node is lost.
pub(super) fn run(demo: &Demo, python: &Path) -> Result<()> {
    demo.forget()?;
    let settings =
        [("RAY_USAGE_STATS_ENABLED", "0"), ("RAY_AUTH_MODE", "disabled"), ("RAY_DEDUP_LOGS", "0")];
    let mut cluster = Command::new(python)
        .args(["-c", CLUSTER])
        .envs(settings)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start Ray")?;
    let lines = BufReader::new(cluster.stdout.take().context("no output")?).lines();
    let address = lines
        .map_while(Result::ok)
        .find_map(|line| Some(line.strip_prefix("address ")?.to_owned()))
        .context("Ray does not start")?;
    let mut orders = cluster.stdin.take().context("no input")?;
    let (shares, python) = (SHARES.to_string(), python.display().to_string());
    let mut launch = demo.command(&["launch", "ray", "--shards", &shares, "--address", &address]);
    launch.args(["--python", &python, "--", "--no-register", "--quiet"]).envs(settings);
    let launched = launch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    wait("a share on every node", || (demo.at_work(|_| true).len() >= 3).then_some(()))?;
    writeln!(orders, "lose one")?;
    let output = launched.wait_with_output()?;
    drop(orders);
    ensure!(cluster.wait()?.success(), "Ray did not end in order");
    demo.is_as_expected(&output)?;
    println!("ray: {SHARES} shares, a node lost while it was at work: as on one machine");
    Ok(())
}
