//! Tables as Consul prints them: columns two spaces apart, each as wide as its widest cell.

use std::io::{BufWriter, Write};

use crate::console::{Console, Failure};

/// Writes `rows`, the first of which is the heading, to standard output. The last column is as wide as it comes; all others are padded,
/// also where nothing follows.
pub(crate) fn write<const COLUMNS: usize>(
    console: &mut Console<'_>,
    rows: &[[String; COLUMNS]],
) -> Result<(), Failure> {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    if let Some(last) = widths.last_mut() {
        *last = 0;
    }
    let mut out = BufWriter::new(&mut *console.out);
    for row in rows {
        for (at, (cell, &width)) in row.iter().zip(&widths).enumerate() {
            let gap = if at == 0 { "" } else { "  " };
            write!(out, "{gap}{cell:<width$}")?;
        }
        writeln!(out)?;
    }
    Ok(out.flush()?)
}
