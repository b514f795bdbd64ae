//! The curves as a chart: a panel for each figure, what grows to the right and on a logarithmic
//! axis, costs upwards from zero unless they grow too much for that.

use super::Measured;
use crate::{
    figure::{Figure, short},
    options::Peer,
    svg::{Anchor, Drawing, colour},
};

const COLUMNS: usize = 2;
const COLUMN: f64 = 390.0;
const ROW: f64 = 230.0;
const LEGEND: f64 = 34.0;
const LEFT: f64 = 46.0;
const WIDTH: f64 = 300.0;
const TOP: f64 = 46.0;
const HEIGHT: f64 = 130.0;

/// A greatest cost of so many times the least asks for a logarithmic axis.
const MUCH: f64 = 20.0;

/// The chart.
pub fn svg(measured: &[Measured]) -> String {
    let panels: Vec<(&Measured, &Figure)> = measured
        .iter()
        .flat_map(|curve| {
            curve
                .curve
                .figures
                .iter()
                .map(move |figure| (curve, figure))
        })
        .collect();
    let mut drawing = Drawing::new(COLUMN * COLUMNS as f64);
    drawing.legend((4.0, 16.0), &[Peer::Mixlab, Peer::Node, Peer::Native]);
    for (number, (curve, figure)) in panels.iter().enumerate() {
        let x = 4.0 + COLUMN * (number % COLUMNS) as f64;
        let y = LEGEND + ROW * (number / COLUMNS) as f64;
        panel(&mut drawing, (x, y), curve, figure);
    }
    drawing.finish(LEGEND + ROW * panels.len().div_ceil(COLUMNS) as f64)
}

fn panel(drawing: &mut Drawing, (x, y): (f64, f64), measured: &Measured, figure: &Figure) {
    let curve = measured.curve;
    drawing.title((x, y + 14.0), curve.title);
    drawing.text((x, y + 30.0), Anchor::Start, figure.unit);
    let (left, bottom) = (x + LEFT, y + TOP + HEIGHT);
    let values: Vec<Vec<(usize, f64)>> = curve
        .peers
        .iter()
        .map(|peer| {
            let points = curve.points.iter().filter_map(|&point| {
                let spread = measured.spread(figure, *peer, point)?;
                Some((point, spread.median))
            });
            points.collect()
        })
        .collect();
    let all = || values.iter().flatten().map(|(_, value)| *value);
    let scale = Scale::of(all());
    let across = Scale::logarithmic(curve.points.iter().map(|&point| point as f64));
    drawing.line((left, y + TOP), (left, bottom), false);
    drawing.line((left, bottom), (left + WIDTH, bottom), false);
    for value in scale.marks() {
        let y = bottom - HEIGHT * scale.share(value);
        drawing.line((left - 4.0, y), (left, y), false);
        drawing.text((left - 7.0, y + 4.0), Anchor::End, short(value));
    }
    let place = |point: usize| left + WIDTH * across.share(point as f64);
    for &point in curve.points {
        drawing.text((place(point), bottom + 16.0), Anchor::Middle, point);
    }
    drawing.text(
        (left + WIDTH / 2.0, bottom + 31.0),
        Anchor::Middle,
        curve.axis,
    );
    for (peer, points) in curve.peers.iter().zip(&values) {
        let points: Vec<(f64, f64)> = points
            .iter()
            .map(|(point, value)| (place(*point), bottom - HEIGHT * scale.share(*value)))
            .collect();
        drawing.curve(&points, colour(*peer));
    }
}

/// What lies where on an axis.
#[derive(Debug, Clone, Copy)]
struct Scale {
    least: f64,
    greatest: f64,
    logarithmic: bool,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64>) -> Self {
        let scale = Self::logarithmic(values);
        if scale.greatest / scale.least > MUCH {
            return scale;
        }
        Self {
            least: 0.0,
            logarithmic: false,
            ..scale
        }
    }

    fn logarithmic(values: impl Iterator<Item = f64>) -> Self {
        let (least, greatest) = values.fold((f64::MAX, 0.01_f64), |(least, greatest), value| {
            (least.min(value.max(0.01)), greatest.max(value))
        });
        Self {
            least: least.min(greatest),
            greatest,
            logarithmic: true,
        }
    }

    /// Between 0, where the axis begins, and 1.
    fn share(&self, value: f64) -> f64 {
        if !self.logarithmic {
            return value / self.greatest;
        }
        match (self.greatest / self.least).ln() {
            0.0 => 0.0,
            length => (value.max(self.least) / self.least).ln() / length,
        }
    }

    /// Values to write at the axis.
    fn marks(&self) -> [f64; 3] {
        let middle = match self.logarithmic {
            true => (self.least * self.greatest).sqrt(),
            false => f64::midpoint(self.least, self.greatest),
        };
        [self.least, middle, self.greatest]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_is_logarithmic_where_costs_grow_much() {
        let scale = Scale::of([1.0, 100.0].into_iter());
        assert_eq!(scale.marks(), [1.0, 10.0, 100.0]);
        assert_eq!(
            [1.0, 10.0, 100.0].map(|value| scale.share(value)),
            [0.0, 0.5, 1.0]
        );
        let scale = Scale::of([5.0, 10.0].into_iter());
        assert_eq!(scale.marks(), [0.0, 5.0, 10.0]);
        assert_eq!(scale.share(5.0), 0.5);
    }
}
