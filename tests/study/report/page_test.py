"""The page: whole, self-contained, valid, the same when it is made again."""

import base64
import html
import html.parser
import importlib.util
import json
import pathlib
import re
import unittest
from unittest import mock

import toys
from absl.testing import absltest

from robust_features import report
from robust_features.study import publish
from robust_features.study.report import comparison, stage_graph
from tests.study.report import report_test

PICTURE = re.compile('png;base64,[^"]*')
VOID = {"meta", "img"}


class _Reader(html.parser.HTMLParser):
  """Collects tags and text, and refuses tags that are not closed in order."""

  def __init__(self):
    super().__init__()
    self.open, self.images, self.links, self.ids = [], [], [], []

  def handle_starttag(self, tag, attrs):
    attrs = dict(attrs)
    self.links += [attrs[k] for k in ("src", "href") if k in attrs]
    self.ids += [attrs["id"]] if "id" in attrs else []
    if tag == "img":
      self.images.append(attrs)
    if tag not in VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    if not self.open or self.open.pop() != tag:
      raise ValueError(f"</{tag}> at {self.getpos()}")


def read(text):
  reader = _Reader()
  reader.feed(text)
  reader.close()
  return reader


def contrast(one, other):
  """Returns the ratio of two colours' luminances, as WCAG 2 defines it."""

  def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

  low, high = sorted((luminance(one), luminance(other)))
  return (high + 0.05) / (low + 0.05)


@unittest.skipUnless(importlib.util.find_spec("jinja2"), "jinja2 is missing")
class PageTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.workdir = toys.class_folder(cls)
    report_test.write_stages(cls.workdir)
    cls.results = report_test.results()
    publish.publish(cls.results, cls.workdir)
    cls.text = (cls.workdir / "report.html").read_text()
    # What a failed assertion prints is to be read, so without the pictures.
    cls.plain = html.unescape(PICTURE.sub("", cls.text))
    cls.reader = read(cls.text)

  def test_tags_are_closed_and_ids_are_unique(self):
    self.assertEqual(self.reader.open, [])
    self.assertLen(set(self.reader.ids), len(self.reader.ids))

  def test_it_needs_nothing_beside_it(self):
    self.assertNotEmpty(self.reader.links)
    for link in self.reader.links:
      if link.startswith("#"):
        self.assertIn(link[1:], self.reader.ids)
      else:
        self.assertStartsWith(link, "data:")
    self.assertNotRegex(self.text, r"<script|@import|url\(|https?:")

  def test_every_figure_is_there_and_says_what_it_shows(self):
    drawn = list((self.workdir / "figures").glob("*.png"))
    self.assertLen(self.reader.images, len(drawn))
    for image in self.reader.images:
      self.assertRegex(image["alt"], r"^\w+: .{30}")

  def test_every_row_is_there_with_its_error_and_the_papers_number(self):
    for row in self.results["rows"]:
      self.assertIn(f">{row['title']}", self.text)
    for cell in ("90.0 ± 0.9", "0.0 ± 0.0", "not measured", "95.25"):
      self.assertIn(f"<td>{cell}</td>", self.text)
    self.assertIn("robust model, a control", self.plain)
    self.assertIn("Claims and controls", self.plain)

  def test_by_class_and_confusion(self):
    for caption in (", clean", " under attack, eps=0.25"):
      self.assertIn(f"<caption>Percent correct{caption}</caption>", self.text)
    self.assertIn("<td>82</td>", self.text)  # 411 of 500, seen as itself.
    self.assertIn('<td class="share2">89</td>', self.text)  # 17.8% of it.
    self.assertIn("<td>-</td>", self.text)  # A class without images.

  def test_every_section_and_claim_is_there(self):
    made, measured = publish.sections(self.results)
    for title, _ in [*made, *measured]:
      self.assertIn(f"<h3>{title}</h3>", self.plain)
    for name, kind in publish.KINDS.items():
      self.assertNotEmpty(kind.claim, name)
      if self.results[kind.section]:
        self.assertIn(kind.claim, self.plain)
        self.assertIn(f"part-{name}", self.reader.ids)

  def test_how_it_was_made(self):
    for text in (
      "python -m a --config=b<c>", "seed=4</code>", "x=1, 2</code>",
      "62 s, all stages",
      "2 x cpu, 4 cores", "jax 1.2.3", "beef", "2026-01-02 10:11 UTC", "--a=1",
      "done 2026-01-02 10:11 UTC by commit 0123456789ab", "3.2 s of compiling",
    ):  # fmt: skip
      self.assertIn(text, self.plain)
    (config,) = (x for x in self.reader.links if x.startswith("data:text"))
    saved = base64.b64decode(config.partition("base64,")[2]).decode()
    self.assertEqual(saved, self.results["config"])
    self.assertIn(f'<pre tabindex="0">{saved}</pre>', self.plain)

  def test_stages_are_drawn_after_what_they_work_on(self):
    drawing = stage_graph.layout(self.results["stages"])
    base, row = drawing.boxes
    self.assertGreater(row.x, base.x + stage_graph.WIDTH)
    self.assertLen(drawing.arrows, 1)
    self.assertIn(">base</text>", self.text)
    self.assertIn("train, 61 s</text>", self.text)

  def test_words_stand_out_from_the_page_light_and_dark(self):
    """At least 4.5 to 1, as WCAG 2 asks for."""
    for block in re.findall(r":root \{([^}]*)\}", self.text):
      colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
      for word in ("ink", "quiet", "link"):
        for ground in ("paper", "shade"):
          ratio = contrast(colours[word], colours[ground])
          self.assertGreater(ratio, 4.5, (word, ground))

  def test_what_is_typed_is_no_markup(self):
    self.assertIn("--config=b&lt;c&gt;", self.text)

  def test_made_again_it_is_the_same(self):
    report.main([str(self.workdir)])
    again = (self.workdir / "report.html").read_text()
    self.assertEqual(PICTURE.sub("", again), PICTURE.sub("", self.text))
    self.assertEqual(
      json.loads((self.workdir / "results.json").read_text()), self.results
    )

  def test_a_run_without_results_is_refused(self):
    status, _, err = toys.command(report.main, self.workdir / "figures")
    self.assertEqual(status, 1)
    self.assertRegex(err, "^error: .*results.json is missing; finish .*\n$")

  def test_a_run_older_than_reports(self):
    folder = toys.folder(self)
    (folder / "results.json").write_text("{}")
    status, _, err = toys.command(report.main, folder)
    self.assertEqual(status, 1)
    self.assertRegex(err, "^error: .*an older version; run .*\n$")


@unittest.skipUnless(importlib.util.find_spec("jinja2"), "jinja2 is missing")
class CompareTest(absltest.TestCase):
  def runs(self):
    runs = [report_test.results() for _ in range(2)]
    runs[1]["rows"][0]["accuracy"] = 0.8
    runs[1]["rows"][1]["accuracy"] = 0.7912
    return runs

  def test_mean_spread_and_paired_difference(self):
    text = comparison.compare(self.runs())
    self.assertEqual(read(text).open, [])
    self.assertIn("<td>85.0 ± 7.1 (80.0 to 90.0)</td>", text)
    # 85.12 - 90 and 79.12 - 80.
    self.assertIn("<td>-2.9 ± 2.8 (-4.9 to -0.9)</td>", text)
    self.assertIn("n = 2", text)
    self.assertIn("85.0 ± 7.1 |", comparison.markdown(self.runs()))
    self.assertIn("<td>not measured</td>", text)

  def test_the_command_compares_and_prints(self):
    out = toys.folder(self) / "both.html"
    with mock.patch.object(report, "remake", side_effect=self.runs()):
      found = toys.command(report.main, "one", "two", f"--out={out}")
    self.assertEqual((found[0], found[2]), (0, ""))
    self.assertIn("85.0 ± 7.1 (80.0 to 90.0)", out.read_text())
    self.assertIn("85.0 ± 7.1 |", found[1])
    self.assertIn("n = 2", found[1])

  def test_the_command_of_one_run_says_where_its_page_is(self):
    with mock.patch.object(report, "remake") as remake:
      found = toys.command(report.main, "~/one")
    self.assertEqual(found, (0, "report: ~/one/report.html\n", ""))
    remake.assert_called_once_with(pathlib.Path.home() / "one")

  def test_other_rows_are_refused(self):
    runs = self.runs()
    del runs[1]["rows"][0]
    with self.assertRaisesRegex(ValueError, "must have the same rows"):
      comparison.compare(runs)


if __name__ == "__main__":
  absltest.main()
