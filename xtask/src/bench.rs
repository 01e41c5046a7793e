//! `cargo xtask bench`: the benchmarks, with the release profile that they are about.

use crate::run::openly;
use crate::test::for_local_cloud;
use crate::tools;
use crate::workspace::{Workspace, cargo};

pub(crate) fn bench(options: &[String]) -> anyhow::Result<()> {
    let tools = tools::setup()?;
    let workspace = Workspace::find()?;
    let mut bench = cargo();
    bench.args(["bench", "--workspace", "--"]).args(options);
    openly(for_local_cloud(&mut bench, &tools, &workspace)?)
}
