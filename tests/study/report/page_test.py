"""The page: whole, self-contained, valid, the same when it is made again."""

import html
import html.parser
import importlib.util
import json
import re
import unittest

import toys
from absl.testing import absltest

from robust_features import report
from robust_features.study import publish
from robust_features.study.report import page
from tests.study.report import report_test

PICTURE = re.compile('base64,[^"]*')
VOID = {"meta", "img", "br", "link"}


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


@unittest.skipUnless(importlib.util.find_spec("jinja2"), "jinja2 is missing")
class PageTest(absltest.TestCase):
  @classmethod
  def setUpClass(cls):
    super().setUpClass()
    cls.workdir = toys.class_folder(cls)
    report_test.write_examples(cls.workdir)
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
      self.assertStartsWith(link, "data:image/png;base64,")
    self.assertNotRegex(self.text, r"<script|@import|url\(")

  def test_every_figure_is_there_and_says_what_it_shows(self):
    drawn = list((self.workdir / "figures").glob("*.png"))
    self.assertLen(self.reader.images, len(drawn))
    for image in self.reader.images:
      self.assertRegex(image["alt"], r"^\w+: .{30}")

  def test_every_row_is_there_with_its_error(self):
    for row in self.results["rows"]:
      self.assertIn(f">{row['title']}</th>", self.text)
    self.assertIn("<td>90.0 ± 0.9</td>", self.text)
    self.assertIn("<td>0.0 ± 0.0</td>", self.text)
    self.assertIn("<td>not measured</td>", self.text)  # No zero.

  def test_every_section_and_claim_is_there(self):
    made, measured = publish.sections(self.results)
    for title, _ in [*made, *measured]:
      self.assertIn(f"<h3>{title}</h3>", self.plain)
    for name, kind in publish.KINDS.items():
      self.assertNotEmpty(kind.claim, name)
      if self.results[kind.section]:
        self.assertIn(kind.claim, self.plain)

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
    with self.assertRaisesRegex(SystemExit, "results.json is missing; finish"):
      report.main([str(self.workdir / "figures")])


@unittest.skipUnless(importlib.util.find_spec("jinja2"), "jinja2 is missing")
class CompareTest(absltest.TestCase):
  def runs(self):
    runs = [report_test.results() for _ in range(2)]
    runs[1]["rows"][0]["accuracy"] = 0.8
    runs[1]["rows"][1]["accuracy"] = 0.7912
    return runs

  def test_mean_spread_and_paired_difference(self):
    text = page.compare(self.runs())
    self.assertEqual(read(text).open, [])
    self.assertIn("<td>85.0 ± 7.1 (80.0 to 90.0)</td>", text)
    # 85.12 - 90 and 79.12 - 80.
    self.assertIn("<td>-2.9 ± 2.8 (-4.9 to -0.9)</td>", text)
    self.assertIn("n = 2", text)
    self.assertIn("<td>not measured</td>", text)

  def test_other_rows_are_refused(self):
    runs = self.runs()
    del runs[1]["rows"][0]
    with self.assertRaisesRegex(ValueError, "must have the same rows"):
      page.compare(runs)


if __name__ == "__main__":
  absltest.main()
