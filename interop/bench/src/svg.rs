//! The picture: IOPS and CPU per I/O over depth, 4 KiB, one connection to the null target.

use std::fmt::Write as _;

use crate::contender::Contender;
use crate::matrix::{Digests, Load, Server};
use crate::report::{Report, Summary};

const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 240.0;
const MARGIN: f64 = 60.0;

/// Who is drawn, and how.
const SERIES: [(Contender, &str); 3] = [
    (Contender::Ours, "#c2410c"),
    (Contender::Libiscsi, "#64748b"),
    (Contender::Limit, "#0d9488"),
];

type Value = fn(&Summary) -> f64;

/// Draws what the report has of it.
pub(crate) fn draw(report: &Report) -> String {
    let (width, height) = (
        (WIDTH + MARGIN) * 2.0 + 20.0,
        (HEIGHT + MARGIN) * 2.0 + 40.0,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (index, (contender, colour)) in (0_u8..).zip(SERIES) {
        let x = MARGIN + 120.0 * f64::from(index);
        put(
            &mut svg,
            &format!("<rect x=\"{x}\" y=\"10\" width=\"12\" height=\"12\" fill=\"{colour}\"/>"),
        );
        label(&mut svg, x + 18.0, 21.0, "start", contender.name());
    }
    let iops: Value = |result| result.iops.median / 1e3;
    let cpu: Value = |result| result.cpu_us_per_io.median;
    let panels = [
        (0.0, 0.0, Load::Read, "4 KiB reads, 1000 IOPS", iops),
        (1.0, 0.0, Load::Write, "4 KiB writes, 1000 IOPS", iops),
        (0.0, 1.0, Load::Read, "4 KiB reads, CPU per I/O in µs", cpu),
        (
            1.0,
            1.0,
            Load::Write,
            "4 KiB writes, CPU per I/O in µs",
            cpu,
        ),
    ];
    for (column, line, load, title, value) in panels {
        let left = MARGIN + column * (WIDTH + MARGIN);
        let top = MARGIN + line * (HEIGHT + MARGIN);
        panel(&mut svg, report, (left, top), load, title, value);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(
    svg: &mut String,
    report: &Report,
    (left, top): (f64, f64),
    load: Load,
    title: &str,
    value: Value,
) {
    let points = |contender: Contender| -> Vec<(f64, f64)> {
        let rows = report.rows.iter().filter(|row| {
            let cell = row.cell;
            cell.server == Server::Null
                && cell.load == load
                && (cell.bytes, cell.paths, cell.threads, cell.digests)
                    == (4096, 1, 1, Digests::None)
        });
        rows.filter_map(|row| {
            let result = row.results.get(&contender)?;
            Some((f64::from(row.cell.depth), value(result)))
        })
        .collect()
    };
    let all: Vec<f64> = SERIES
        .iter()
        .flat_map(|(contender, _)| points(*contender))
        .map(|(_, y)| y)
        .collect();
    let top_value = all.into_iter().fold(1.0, f64::max) * 1.05;
    let (plot_width, plot_height) = (WIDTH - 20.0, HEIGHT - 30.0);
    // Depths 1 to 128 are seven doublings.
    let place = |(depth, y): (f64, f64)| {
        let x = left + depth.log2() / 7.0 * plot_width;
        (x, top + plot_height * (1.0 - y / top_value))
    };
    label(svg, left, top - 8.0, "start", title);
    for step in 0..=4_u8 {
        let y = top_value * f64::from(step) / 4.0;
        let (_, height) = place((1.0, y));
        put(
            svg,
            &format!(
                "<line x1=\"{left}\" y1=\"{height:.1}\" x2=\"{:.1}\" y2=\"{height:.1}\" stroke=\"#ddd\"/>",
                left + plot_width
            ),
        );
        label(svg, left - 6.0, height + 4.0, "end", &format!("{y:.1}"));
    }
    for depth in [1.0, 8.0, 32.0, 128.0] {
        let (x, y) = place((depth, 0.0));
        label(svg, x, y + 16.0, "middle", &format!("{depth}"));
    }
    for (contender, colour) in SERIES {
        let places: Vec<(f64, f64)> = points(contender).into_iter().map(place).collect();
        let mut line = String::new();
        for (x, y) in &places {
            let _ = write!(line, "{x:.1},{y:.1} ");
            put(
                svg,
                &format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"),
            );
        }
        put(
            svg,
            &format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                line.trim_end()
            ),
        );
    }
}

fn put(svg: &mut String, element: &str) {
    svg.push_str(element);
    svg.push('\n');
}

fn label(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    put(
        svg,
        &format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"),
    );
}
