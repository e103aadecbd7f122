//! Names beside points, where they cover nothing if there is such a place.

/// About what a character of a label takes, and its height.
pub(crate) const GLYPH: (f64, f64) = (6.4, 13.0);

/// Left, top, right, bottom.
pub(crate) type Area = (f64, f64, f64, f64);

pub(crate) fn overlap(a: Area, b: Area) -> bool {
    a.0 < b.2 && b.0 < a.2 && a.1 < b.3 && b.1 < a.3
}

/// About the width of a text.
pub(crate) fn width(text: &str) -> f64 {
    text.chars().count() as f64 * GLYPH.0
}

/// A box for each name, in the order of the points.
pub(crate) fn place(named: &[((f64, f64), &str)], within: Area) -> Vec<Area> {
    let dot = |(x, y): (f64, f64)| (x - 5.0, y - 5.0, x + 5.0, y + 5.0);
    let mut taken: Vec<Area> = named.iter().map(|(at, _)| dot(*at)).collect();
    let mut boxes = Vec::with_capacity(named.len());
    for ((x, y), name) in named {
        let width = width(name);
        let beside = [
            (x + 9.0, y - GLYPH.1 / 2.0),
            (x - 9.0 - width, y - GLYPH.1 / 2.0),
            (x - width / 2.0, y - 9.0 - GLYPH.1),
            (x - width / 2.0, y + 9.0),
            (x + 6.0, y - 6.0 - GLYPH.1),
            (x + 6.0, y + 6.0),
            (x - 6.0 - width, y - 6.0 - GLYPH.1),
            (x - 6.0 - width, y + 6.0),
            (x + 12.0, y - 24.0 - GLYPH.1),
            (x + 12.0, y + 24.0),
            (x - 12.0 - width, y - 24.0 - GLYPH.1),
            (x - 12.0 - width, y + 24.0),
        ];
        let boxes_beside = beside.map(|(left, top)| (left, top, left + width, top + GLYPH.1));
        let inside = |area: &Area| {
            area.0 >= within.0 && area.1 >= within.1 && area.2 <= within.2 && area.3 <= within.3
        };
        let free = boxes_beside
            .into_iter()
            .find(|area| inside(area) && !taken.iter().any(|other| overlap(*area, *other)));
        let label = free.unwrap_or_else(|| pushed(boxes_beside[0], within));
        taken.push(label);
        boxes.push(label);
    }
    boxes
}

/// The box, moved until it lies within; its beginning where it is too wide.
fn pushed(area: Area, within: Area) -> Area {
    let (width, height) = (area.2 - area.0, area.3 - area.1);
    let left = area.0.min(within.2 - width).max(within.0);
    let top = area.1.min(within.3 - height).max(within.1);
    (left, top, left + width, top + height)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_cover_each_other() {
        let places = [(400.0, 200.0), (404.0, 203.0), (399.0, 207.0), (60.0, 20.0), (700.0, 380.0)];
        let named: Vec<_> = places.iter().map(|at| (*at, "rotated 0.125")).collect();
        let boxes = place(&named, (50.0, 10.0, 740.0, 390.0));
        for (at, one) in boxes.iter().enumerate() {
            assert!(boxes[at + 1..].iter().all(|other| !overlap(*one, *other)), "{boxes:?}");
            assert!(one.0 >= 50.0 && one.2 <= 740.0 && one.1 >= 10.0 && one.3 <= 390.0);
        }
    }
}
