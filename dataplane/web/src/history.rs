//! The last minutes, a point a second.

use overview::Point;
use std::collections::VecDeque;

/// Points, oldest first.
#[derive(Debug)]
pub(crate) struct History {
    points: VecDeque<Point>,
    room: usize,
}

impl History {
    /// Room for so many points.
    pub(crate) fn new(room: usize) -> Self {
        Self { points: VecDeque::with_capacity(room), room }
    }

    /// Takes a point in place of the oldest one.
    pub(crate) fn push(&mut self, point: Point) {
        if self.points.len() >= self.room {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// As JSON, an array.
    pub(crate) fn json(&self) -> Vec<u8> {
        serde_json::to_vec(&self.points).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_point_makes_room() {
        let mut history = History::new(3);
        assert_eq!(history.json(), b"[]");
        (1..=5).for_each(|at_ms| history.push(Point { at_ms, ..Point::default() }));
        let points: Vec<Point> = serde_json::from_slice(&history.json()).expect("points");
        assert_eq!(points.iter().map(|point| point.at_ms).collect::<Vec<_>>(), [3, 4, 5]);
    }
}
