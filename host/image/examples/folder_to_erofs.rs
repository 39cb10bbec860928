//! `cargo run -p theca-image --example folder_to_erofs -- DIR IMAGE`: what the keeper does for `--rootfs DIR`.

use std::fs::File;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [folder, image] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "usage: DIR IMAGE")?;
    let image = File::options().read(true).write(true).create_new(true).open(image)?;
    Ok(theca_image::erofs::write_folder(Path::new(&folder), &image)?)
}
