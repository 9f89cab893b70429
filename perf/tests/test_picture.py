"""The flame graph is a sound picture: every frame where it belongs, nothing outside, any name."""

import unittest
import xml.etree.ElementTree as xml
from collections import Counter

from context import LIB  # noqa: F401, before the modules of ../lib
import flamegraph

SVG = "{http://www.w3.org/2000/svg}"
FOLDED = Counter({
    ("data-0", "clone3", "opencall_dataplane::thread::Seat::run", "aws_lc_0_1_aes_gcm"): 30,
    ("data-0", "clone3", "opencall_dataplane::thread::Seat::run", "udp_sendmsg_[k]"): 60,
    ("opencall-sfu", "<a as b<\"c\" & 'd'>>::poll"): 10,
})


def frames(text):
    """Name of each frame to (class, x, width, y, label)."""
    found = {}
    for group in xml.fromstring(text).find(f"{SVG}g[@id='frames']"):
        title = group.find(f"{SVG}title").text
        box = group.find(f"{SVG}rect")
        found[title.rpartition(" · ")[0]] = (
            group.get("class"), *(float(box.get(key)) for key in ("x", "width", "y")),
            group.find(f"{SVG}text").text or "")
    return found


class Picture(unittest.TestCase):
    def setUp(self):
        self.text = flamegraph.svg(FOLDED, "a <title>", "of this & that")
        self.frames = frames(self.text)

    def test_widths_are_shares_and_callees_lie_over_their_callers(self):
        inner = flamegraph.WIDTH - 2 * flamegraph.SIDE
        _, left, width, y, _ = self.frames["udp_sendmsg_[k]"]
        self.assertAlmostEqual(width, 0.6 * inner, places=1)
        caller = self.frames["opencall_dataplane::thread::Seat::run"]
        _, below_left, below_width, below_y, _ = caller
        self.assertLess(y, below_y)
        self.assertGreaterEqual(left + 0.01, below_left)
        self.assertLessEqual(left + width, below_left + below_width + 0.01)

    def test_neighbours_do_not_overlap(self):
        _, left, width, y, _ = self.frames["aws_lc_0_1_aes_gcm"]
        _, next_left, _, next_y, _ = self.frames["udp_sendmsg_[k]"]
        self.assertEqual(y, next_y)
        self.assertAlmostEqual(left + width, next_left, places=1)

    def test_colours_tell_whose_a_frame_is(self):
        kinds = {name: frame[0] for name, frame in self.frames.items()}
        self.assertEqual(kinds["data-0"], "t")
        self.assertEqual(kinds["udp_sendmsg_[k]"], "k")
        self.assertEqual(kinds["aws_lc_0_1_aes_gcm"], "c")
        self.assertEqual(kinds["opencall_dataplane::thread::Seat::run"], "o")
        self.assertEqual(kinds["clone3"], "r")
        self.assertEqual(flamegraph.kind("alloc::vec_deque::grow", 4), "r")

    def test_any_name_is_written_soundly(self):
        self.assertIn("<a as b<\"c\" & 'd'>>::poll", self.frames)

    def test_labels_do_without_modules(self):
        self.assertEqual(self.frames["opencall_dataplane::thread::Seat::run"][4], "Seat::run")
        for name, wanted in {
            "<a::b::Uring as a::b::Io>::turn": "<Uring as Io>::turn",
            "a::b::<impl a::core::Core>::gather": "<impl Core>::gather",
            "a::f::{{closure}}": "{{closure}}",
            "udp_sendmsg_[k]": "udp_sendmsg_[k]",
        }.items():
            self.assertEqual(flamegraph.short(name), wanted)

    def test_labels_fit(self):
        for _, _, width, _, label in self.frames.values():
            self.assertLessEqual(len(label) * flamegraph.LETTER, width)

    def test_what_is_too_narrow_to_be_seen_is_left_out(self):
        text = flamegraph.svg(Counter({("t", "wide"): 1_000_000, ("t", "narrow"): 1}), "t")
        self.assertIn("wide", frames(text))
        self.assertNotIn("narrow", frames(text))

    def test_nothing_from_elsewhere_is_loaded(self):
        self.assertNotRegex(self.text.replace("http://www.w3.org/2000/svg", ""), r"https?:|src=")

    def test_nothing_cannot_be_drawn(self):
        with self.assertRaises(ValueError):
            flamegraph.svg(Counter(), "t")


if __name__ == "__main__":
    unittest.main()
