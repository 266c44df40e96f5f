"""Folders of images: read rightly, refused by name, or left out and counted."""

import os
import pathlib
import tempfile
from unittest import mock

import numpy as np
import PIL.Image
import PIL.ImageOps
from absl.testing import absltest, parameterized
from hypothesis import given, settings
from hypothesis import strategies as st
from source_case import SourceTestCase

from robust_features.data import dataset as dataset_lib
from robust_features.data import image_folder
from robust_features.data.sources import DataConfig as config

NOBODY = 65534


def save(path, value=100, size=(8, 8), **options):
  """Writes an image of one grey level; `size` is (width, height)."""
  path.parent.mkdir(parents=True, exist_ok=True)
  PIL.Image.new("RGB", size, (value,) * 3).save(path, **options)


class FolderTestCase(SourceTestCase):
  def write(self, test="test", sizes=(8, 8), classes=("cat", "ant")):
    """Writes train and test; pixel = 100 * place of the class + number."""
    root = self.folder()
    for split in filter(None, ("train", test)):
      for label, name in enumerate(classes):
        for i, size in enumerate(sizes):
          path = root / split / name / f"{i}.png"
          save(path, 100 * label + i, (size, size))
    return root

  def cfg(self, root, **fields):
    return config("image_folder", data_dir=str(root), **fields)

  def skipping(self, root):
    return self.load("image_folder", data_dir=str(root), skip_unreadable=True)


class ReadTest(FolderTestCase):
  @parameterized.parameters("test", "val")
  def test_reads(self, test):
    train, _, test = self.load("image_folder", data_dir=str(self.write(test)))
    self.assertEqual(train.class_names, ("ant", "cat"))
    for part in (train, test):
      np.testing.assert_array_equal(part.labels, [0, 0, 1, 1])
      values = part.images[:, 0, 0, 0]
      np.testing.assert_array_equal(values, [100, 101, 0, 1])
    self.assert_said()

  def test_classes_alone_are_a_training_set(self):
    root = self.write(test=None) / "train"
    train, _, test = self.load("image_folder", data_dir=str(root))
    self.assertEqual((train.num_examples, test.num_examples), (4, 0))
    self.assert_said("no test images; test_fraction would hold some out")

  def test_classes_txt_decides_the_order(self):
    root = self.write()
    (root / "classes.txt").write_text("cat\nowl\nant\n")
    train, *_ = self.load("image_folder", data_dir=str(root))
    self.assertEqual(train.class_names, ("cat", "owl", "ant"))
    np.testing.assert_array_equal(train.labels, [0, 0, 2, 2])
    self.assert_said("train: no image of the classes owl", "test: .* owl")
    (root / "classes.txt").write_text("cat\n")
    self.assert_refused(self.cfg(root), "classes.txt: lacks the classes ant")
    (root / "classes.txt").write_text("cat\nant\ncat\n")
    self.assert_refused(self.cfg(root), "classes.txt: names a class twice")

  def test_a_class_without_test_images_is_told(self):
    root = self.write()
    for path in (root / "test/cat").iterdir():
      path.unlink()
    (root / "test/cat").rmdir()
    _, _, test = self.load("image_folder", data_dir=str(root))
    np.testing.assert_array_equal(dataset_lib.class_counts(test), [2, 0])
    self.assert_said("test: no image of the classes cat")

  def test_folders_that_are_not_read_are_told(self):
    root = self.write()
    for name in ("val", "unlabelled", ".git"):
      (root / name).mkdir()
    self.load("image_folder", data_dir=str(root))
    self.assert_said("not read: unlabelled, val$")

  def test_what_desktops_leave_is_passed_over(self):
    root = self.write()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
      (root / "train/cat" / name).write_text("x")
      (root / "train" / name).write_text("x")
    (root / "train/.ipynb_checkpoints").mkdir()
    train, *_ = self.load("image_folder", data_dir=str(root))
    self.assertEqual(train.num_examples, 4)
    self.assert_said()


class SizeTest(FolderTestCase):
  def test_resizes_the_shorter_side_and_crops_the_centre(self):
    root = self.write(sizes=(8,))
    # Three bands of 20 columns: the middle one is what the crop keeps.
    bands = np.repeat(np.array([10, 20, 30], np.uint8), 20)
    image = np.broadcast_to(bands[None, :, None], (20, 60, 3))
    PIL.Image.fromarray(np.ascontiguousarray(image)).save(
      root / "train/ant/1.png"
    )
    train, *_ = self.load("image_folder", data_dir=str(root), image_size=4)
    self.assertEqual(train.image_shape, (4, 4, 3))
    np.testing.assert_array_equal(train.images[1, :, 1:3], 20)

  def test_streamed_images_are_the_same(self):
    root = self.write(sizes=(8,))
    options = {"data_dir": str(root), "image_size": 4}
    train, *_ = self.load("image_folder", **options)
    streamed, *_ = self.load("image_folder", streamed=True, **options)
    self.assertEqual(streamed.image_shape, (4, 4, 3))
    np.testing.assert_array_equal(
      streamed.images[np.arange(train.num_examples)], train.images
    )

  def test_images_of_one_size_keep_it(self):
    root = self.write(sizes=())
    for split in ("train", "test"):
      for name in ("a", "b"):
        save(root / split / name / "0.png", size=(10, 256))
    train, *_ = self.load("image_folder", data_dir=str(root))
    self.assertEqual(train.image_shape, (256, 10, 3))

  def test_photographs_become_32_pixels_and_a_line_says_so(self):
    root = self.write(sizes=(40, 40))
    save(root / "test/ant/1.png", size=(50, 41))
    parts = self.load("image_folder", data_dir=str(root))
    for part in (parts.train, parts.test):
      self.assertEqual(part.image_shape, (32, 32, 3))
    self.assert_said(
      "images of 40x40 to 50x41 pixels are resized to 32x32; image_size"
    )

  def test_one_size_of_a_camera_is_resized_too(self):
    root = self.write(sizes=(257,))
    parts = self.load("image_folder", data_dir=str(root))
    self.assertEqual(parts.train.image_shape, (32, 32, 3))
    self.assert_said("257x257 pixels are resized to 32x32")


class FormatTest(FolderTestCase):
  """What Pillow opens is turned into the right 8-bit RGB, or refused."""

  def read(self, image, suffix=".png", **options):
    """Returns the pixels that a class's one image is read as."""
    root = self.write(sizes=())
    for split in ("train", "test"):
      save(root / split / "b" / "0.png", size=image.size)
    (root / "train/a").mkdir()
    save(root / "test/a/0.png", size=image.size)
    self.path = root / "train/a" / f"0{suffix}"
    image.save(self.path, **options)
    self.root = root
    return self.load("image_folder", data_dir=str(root)).train.images[0]

  @parameterized.parameters(".png", ".pgm", ".tif")
  def test_sixteen_bits_of_grey_are_scaled(self, suffix):
    ramp = np.arange(0, 65536, 257, dtype=np.uint16).reshape(16, 16)
    found = self.read(PIL.Image.fromarray(ramp), suffix)
    wanted = np.arange(256).reshape(16, 16)
    for channel in range(3):
      np.testing.assert_array_equal(found[..., channel], wanted)

  def test_sixteen_bits_are_rounded(self):
    levels = np.array([[0, 128, 129, 65535]], np.uint16)  # 257 / 2 = 128.5.
    found = self.read(PIL.Image.fromarray(levels))
    np.testing.assert_array_equal(found[0, :, 0], [0, 0, 1, 255])

  @parameterized.parameters(*range(1, 9))
  def test_exif_orientation_is_applied(self, orientation):
    rng = np.random.default_rng(0)
    blocks = rng.integers(256, size=(2, 3, 3)).astype(np.uint8)
    upright = np.kron(blocks, np.ones((8, 8, 1), np.uint8))
    # What a camera held that way stores: the inverse of how it is shown.
    stored = {
      1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1],
      4: lambda x: x[::-1], 5: lambda x: x.swapaxes(0, 1),
      6: lambda x: np.rot90(x), 7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
      8: lambda x: np.rot90(x, -1),
    }[orientation](upright)  # fmt: skip
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image = PIL.Image.fromarray(np.ascontiguousarray(stored))
    for suffix, options in ((".png", {}), (".webp", {"lossless": True}),
                            (".tif", {})):  # fmt: skip
      self.said.clear()
      found = self.read(image, suffix, exif=exif, **options)
      if orientation < 5:  # The others differ in size from their fellows.
        np.testing.assert_array_equal(found, upright)
      else:
        shown = np.asarray(
          PIL.Image.fromarray(upright).resize(
            (48, 32), PIL.Image.Resampling.BILINEAR
          )
        )
        np.testing.assert_array_equal(found, shown[:, 8:40])
      turned = [line for line in self.said if "EXIF" in line]
      self.assertLen(turned, int(orientation != 1))

  def test_palettes(self):
    rgb = np.zeros((2, 2, 3), np.uint8)
    rgb[0, 0], rgb[1, 1] = (255, 0, 7), (3, 200, 100)
    image = PIL.Image.fromarray(rgb).quantize(4)
    np.testing.assert_array_equal(self.read(image), rgb)

  def test_what_is_transparent_lies_on_white(self):
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0] = [[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 51]]
    found = self.read(PIL.Image.fromarray(rgba))
    np.testing.assert_array_equal(
      found[0], [[10, 20, 30], [255] * 3, [204] * 3]
    )
    grey = PIL.Image.fromarray(np.array([[0, 9]], np.uint8))
    found = self.read(grey, transparency=9)
    np.testing.assert_array_equal(found[0], [[0] * 3, [255] * 3])

  def test_cmyk(self):
    cmyk = np.array([[[0, 0, 0, 0], [0, 255, 255, 0]]], np.uint8)
    found = self.read(PIL.Image.fromarray(cmyk, "CMYK"), ".tif")
    np.testing.assert_array_equal(found[0], [[255] * 3, [255, 0, 0]])

  @parameterized.parameters(
    (np.float32, "floats"), (np.int32, "32-bit integers")
  )
  def test_pixels_of_no_known_range_are_refused(self, dtype, name):
    with self.assertRaisesRegex(ValueError, f"a/0.tif: not .* are {name}"):
      self.read(PIL.Image.fromarray(np.zeros((4, 4), dtype)), ".tif")

  @parameterized.parameters(".gif", ".tif", ".webp", ".png")
  def test_several_pictures_in_one_file_are_refused(self, suffix):
    frames = [PIL.Image.new("RGB", (4, 4), (i, 99, 0)) for i in (0, 200)]
    with self.assertRaisesRegex(ValueError, f"a/0{suffix}: .* 2 pictures"):
      self.read(frames[0], suffix, save_all=True, append_images=frames[1:])

  def test_a_camera_may_add_a_preview(self):
    frames = [PIL.Image.new("RGB", (8, 8), (v,) * 3) for v in (70, 200)]
    found = self.read(
      frames[0], ".jpg", format="MPO", save_all=True, append_images=frames[1:]
    )
    np.testing.assert_array_equal(found, 70)

  def test_what_starts_a_program_is_not_opened(self):
    with self.assertRaisesRegex(ValueError, "a/0.png: not an image"):
      self.read(PIL.Image.new("RGB", (4, 4)), format="EPS")

  def test_decompression_bombs(self):
    # Pillow warns of more pixels than this, and refuses twice as many.
    with mock.patch.object(PIL.Image, "MAX_IMAGE_PIXELS", 100):
      with self.assertRaisesRegex(ValueError, "0.png: .*decompression bomb"):
        self.read(PIL.Image.new("RGB", (15, 15)))
      found = self.read(PIL.Image.new("RGB", (12, 12)))
      self.assertEqual(found.shape, (12, 12, 3))


class RefusalTest(FolderTestCase):
  """One line names what cannot be read; skipping counts it."""

  def damage(self, how):
    """Returns a folder with one thing in it that is not an image of a class."""
    root = self.write()
    cat = root / "train/cat"
    if how == "empty":
      (root / "train/owl").mkdir()
    elif how == "imageless":
      (root / "train/__MACOSX").mkdir()
      (root / "train/__MACOSX/.DS_Store").write_text("x")
    elif how == "unreadable":
      save(root / "train/owl/0.png")
      (root / "train/owl").chmod(0)
    elif how == "suffix":
      (cat / "2.AVIF").write_text("x")
    elif how == "no suffix":
      (cat / "notes").write_text("x")
    elif how == "nested":
      save(cat / "images/0.png")
    elif how == "AppleDouble":
      (cat / "._1.PNG").write_bytes(b"\0\5\x16\7")
    elif how == "truncated":
      (cat / "2.png").write_bytes((cat / "1.png").read_bytes()[:45])
    elif how == "html":
      (cat / "2.jpg").write_text("<html>not found</html>")
    elif how == "nothing":
      (cat / "2.png").write_bytes(b"")
    elif how == "pipe":
      os.mkfifo(cat / "2.png")
    elif how == "dangling":
      (cat / "2.png").symlink_to("/no/such/file")
    elif how == "beside":
      save(root / "train/0.png")
    elif how == "empty test":
      (root / "test/cat/x").mkdir()
      for path in (root / "test/cat").glob("*.png"):
        path.unlink()
      (root / "test/cat/x").rmdir()
    return root

  @parameterized.parameters(
    ("empty", "train/owl: class folder holds no image; put .*.png .*.webp"),
    ("imageless", "train/__MACOSX: class folder holds no image"),
    ("unreadable", r"train/owl: cannot be read \(Permission denied\)"),
    ("suffix", r"cat/2.AVIF: unknown suffix '.avif'; convert .*.png .*.tiff"),
    ("no suffix", "cat/notes: unknown suffix ''"),
    ("nested", "cat/images: folder inside a class folder; move its images"),
    ("AppleDouble", "cat/._1.PNG: hidden file named as an image; delete"),
    ("truncated", "cat/2.png: not an image that can be read"),
    ("html", "cat/2.jpg: not an image .*cannot identify image file '2.jpg'"),
    ("nothing", "cat/2.png: not an image that can be read"),
    ("pipe", "cat/2.png: not a regular file"),
    ("dangling", "cat/2.png: not an image .*No such file"),
    ("beside", "train/0.png: a file beside the class folders; move it"),
    ("empty test", "test/cat: class folder holds no image"),
  )
  def test_refused_by_name_or_counted(self, how, message):
    root = self.damage(how)
    if how == "unreadable" and os.geteuid() == 0:  # Root may read anything.
      root.chmod(0o755)
      os.seteuid(NOBODY)
      self.addCleanup(os.seteuid, 0)
    self.assert_refused(self.cfg(root), message, "or set skip_unreadable")
    train, _, test = self.skipping(root)
    self.assertEqual(train.class_names, ("ant", "cat"))
    np.testing.assert_array_equal(train.labels, [0, 0, 1, 1])
    self.assertEqual(test.num_examples, 2 if how == "empty test" else 4)
    (line,) = [line for line in self.said if "left out" in line]
    self.assertRegex(line, r"left out 1 \(")

  def test_counts_by_reason(self):
    root = self.damage("suffix")
    for i in range(3):
      (root / f"test/ant/{i}.tga").write_text("x")
    self.skipping(root)
    reasons = r"left out 3 \(unknown .*'.tga'\), 1 \(unknown suffix '.avif'\)$"
    self.assert_said(reasons)

  def test_whole_class_unreadable(self):
    root = self.write()
    for path in (root / "train/cat").iterdir():
      path.write_text("x")
    train, *_ = self.skipping(root)
    np.testing.assert_array_equal(dataset_lib.class_counts(train), [2, 0])
    self.assertRegex(self.said[0], "train: no image of the classes cat")

  def test_missing_folders(self):
    self.assert_refused(self.cfg(self.folder() / "x"), "x' is not a folder")
    self.assert_refused(self.cfg(self.folder()), "holds no class folder")
    root = self.write()
    (root / "train").rename(root / "Train")
    self.assert_refused(self.cfg(root), "must hold the folder train/<class>/")

  def test_a_class_that_only_the_test_set_has(self):
    root = self.write()
    save(root / "test/dog/0.png")
    self.assert_refused(self.cfg(root), "without training images: dog")

  def test_one_class_is_none(self):
    root = self.write(classes=("cat",))
    self.assert_refused(self.cfg(root), r"holds 1 class with images \(cat\)")


class PropertyTest(absltest.TestCase):
  """Of any tree of files, every image is read, or the tree is refused."""

  names = st.text("ab.é _", min_size=1, max_size=4).filter(
    lambda name: not name.startswith(".")
  )
  entries = st.sampled_from(
    ("x.png", "y.PNG", "z.tif", "w.jpg", "u.gif", "v.avif", "README", ".h",
     "._x.png", "sub")
  )  # fmt: skip

  @settings(max_examples=60, deadline=None)
  @given(tree=st.dictionaries(names, st.sets(entries), max_size=4))
  def test_nothing_is_lost(self, tree):
    with tempfile.TemporaryDirectory() as name:
      root = pathlib.Path(name)
      images = {}
      for folder, entries in tree.items():
        (root / folder).mkdir()
        images[folder] = 0
        for entry in entries:
          if entry == "sub":
            (root / folder / entry).mkdir()
          elif pathlib.Path(entry).suffix.lower() in (
            ".png", ".tif", ".jpg", ".gif"
          ) and not entry.startswith("."):  # fmt: skip
            save(root / folder / entry, size=(4, 4))
            images[folder] += 1
          else:
            (root / folder / entry).write_text("x")
      odd = {"v.avif", "README", "._x.png", "sub"}
      good = not any(odd & e for e in tree.values()) and all(images.values())
      try:
        found, _ = image_folder.load(name)
      except dataset_lib.DataError as error:
        self.assertNotIn("\n", str(error))
        self.assertFalse(good and len(tree) > 1, error)
      else:
        self.assertTrue(good)
        counts = dataset_lib.class_counts(found)
        self.assertEqual(found.class_names, tuple(sorted(images)))
        self.assertEqual(
          counts.tolist(), [images[name] for name in found.class_names]
        )


if __name__ == "__main__":
  absltest.main()
