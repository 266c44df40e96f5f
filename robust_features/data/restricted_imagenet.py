"""Restricted ImageNet: nine super-classes of ImageNet, told by wnids.

A class is never told by its position among what is there: folders may be
missing, and not every copy of ImageNet is sorted. 118 of the 203 classes are
dogs, so that a model that knows no other animal is right on 58% of the images;
`balanced` keeps three classes of each.

Reference: arXiv:1905.02175, appendix C.1, table 2, whose ranges are those of
the paper's library, as is the order of the labels.
"""

import re
from collections.abc import Mapping

from robust_features.data.dataset import DataError
from robust_features.runtime import paths

_WNIDS = {
  "dog": """
    n02085620 n02085782 n02085936 n02086079 n02086240 n02086646 n02086910
    n02087046 n02087394 n02088094 n02088238 n02088364 n02088466 n02088632
    n02089078 n02089867 n02089973 n02090379 n02090622 n02090721 n02091032
    n02091134 n02091244 n02091467 n02091635 n02091831 n02092002 n02092339
    n02093256 n02093428 n02093647 n02093754 n02093859 n02093991 n02094114
    n02094258 n02094433 n02095314 n02095570 n02095889 n02096051 n02096177
    n02096294 n02096437 n02096585 n02097047 n02097130 n02097209 n02097298
    n02097474 n02097658 n02098105 n02098286 n02098413 n02099267 n02099429
    n02099601 n02099712 n02099849 n02100236 n02100583 n02100735 n02100877
    n02101006 n02101388 n02101556 n02102040 n02102177 n02102318 n02102480
    n02102973 n02104029 n02104365 n02105056 n02105162 n02105251 n02105412
    n02105505 n02105641 n02105855 n02106030 n02106166 n02106382 n02106550
    n02106662 n02107142 n02107312 n02107574 n02107683 n02107908 n02108000
    n02108089 n02108422 n02108551 n02108915 n02109047 n02109525 n02109961
    n02110063 n02110185 n02110341 n02110627 n02110806 n02110958 n02111129
    n02111277 n02111500 n02111889 n02112018 n02112137 n02112350 n02112706
    n02113023 n02113186 n02113624 n02113712 n02113799 n02113978
  """,
  "cat": """
    n02123045 n02123159 n02123394 n02123597 n02124075
  """,
  "frog": """
    n01641577 n01644373 n01644900
  """,
  "turtle": """
    n01664065 n01665541 n01667114 n01667778 n01669191
  """,
  "bird": """
    n01795545 n01796340 n01797886 n01798484 n01806143 n01806567 n01807496
    n01817953 n01818515 n01819313 n01820546 n01824575 n01828970 n01829413
    n01833805 n01843065 n01843383 n01847000 n01855032 n01855672 n01860187
  """,
  "primate": """
    n02480495 n02480855 n02481823 n02483362 n02483708 n02484975 n02486261
    n02486410 n02487347 n02488291 n02488702 n02489166 n02490219 n02492035
    n02492660 n02493509 n02493793 n02494079
  """,
  "fish": """
    n02514041 n02526121 n02536864 n02606052 n02607072 n02640242 n02641379
    n02643566 n02655020
  """,
  "crab": """
    n01978287 n01978455 n01980166 n01981276
  """,
  "insect": """
    n02165105 n02165456 n02167151 n02168699 n02169497 n02172182 n02174001
    n02177972 n02190166 n02206856 n02219486 n02226429 n02229544 n02231487
    n02233338 n02236044 n02256656 n02259212 n02264363 n02268443
  """,
}
_WNID = re.compile(r"n\d{8}")
_BALANCED = 3  # As many as the smallest super-class has.


def groups(balanced: bool) -> dict[str, str]:
  """Returns the super-class of each wnid, in the order of the labels.

  Args:
    balanced: Whether only the first three wnids of each are kept.
  """
  return {
    wnid: name
    for name, wnids in _WNIDS.items()
    for wnid in wnids.split()[: _BALANCED if balanced else None]
  }


def check_folder(data_dir: str, groups: Mapping[str, str]) -> None:
  """Raises DataError unless every split of a folder has all wnids' folders."""
  root = paths.resolve(data_dir, "data_dir")
  splits = [root / name for name in ("train", "test", "val")]
  for split in [path for path in splits if path.is_dir()] or [root]:
    if not split.is_dir():
      continue  # `image_folder` says so.
    names = {path.name for path in split.iterdir() if path.is_dir()}
    if not names and any(split.glob("*.JPEG")):
      raise DataError(
        f"{split}: holds images beside each other, as ILSVRC brings those of "
        "validation; move each into the folder of its wnid, such as "
        f"{split / 'n02085620'}"
      )
    if foreign := sorted(name for name in names if not _WNID.fullmatch(name)):
      raise DataError(
        f"{split}: {foreign[0]!r} is no wnid; class folders must be called as "
        "ImageNet's are, such as n02085620"
      )
    if missing := sorted(set(groups) - names):
      raise DataError(
        f"{split}: lacks {len(missing)} of the {len(groups)} wnids of "
        f"Restricted ImageNet, such as {missing[0]}; bring them back"
      )
