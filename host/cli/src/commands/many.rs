//! Commands that take several containers: each is tried, each success is printed as docker prints it, each failure is told.

use crate::error::FAILED;
use crate::output;

/// Does `one` to each of `names` in turn. The exit code is 0 if all went well.
pub async fn each(
    names: &[String],
    mut one: impl AsyncFnMut(String) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    each_quietly(names, async |name| {
        one(name.clone()).await?;
        Ok(output::line(&name)?)
    })
    .await
}

/// The same, for work that prints its successes itself.
pub async fn each_quietly(
    names: &[String],
    mut one: impl AsyncFnMut(String) -> anyhow::Result<()>,
) -> anyhow::Result<u8> {
    let mut code = 0;
    for name in names {
        match one(name.clone()).await {
            Ok(()) => {}
            Err(error) => {
                output::warn(&format!("{error:#}{}", crate::usage::advice(&error)));
                code = FAILED;
            }
        }
    }
    Ok(code)
}
