#include "lab/data/dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lab/core/error.h"

namespace lab {
namespace {

using testing::ElementsAre;

TEST(Dataset, TakesAndDrops) {
  const Dataset all = hdf5("digits.h5", {"images", "labels"});
  EXPECT_EQ(all.path(), "digits.h5");
  EXPECT_THAT(all.fields(), ElementsAre("images", "labels"));
  EXPECT_EQ(all.first(), 0);
  EXPECT_EQ(all.count(), -1);
  const Dataset train = all.take(5500), validate = all.drop(5500);
  EXPECT_EQ(train.first(), 0);
  EXPECT_EQ(train.count(), 5500);
  EXPECT_EQ(validate.first(), 5500);
  EXPECT_EQ(validate.count(), -1);
  const Dataset middle = train.drop(100).take(10).drop(3);
  EXPECT_EQ(middle.first(), 103);
  EXPECT_EQ(middle.count(), 7);
  EXPECT_TRUE(Dataset().empty());
  EXPECT_FALSE(all.empty());
}

TEST(Dataset, NamesOptionalFieldsOnce) {
  const Dataset images = hdf5("digits.h5", {"images"}).with_optional("labels").with_optional("labels");
  EXPECT_THAT(images.fields(), ElementsAre("images"));
  EXPECT_THAT(images.with_optional("images").optional_fields(), ElementsAre("labels"));
}

TEST(Dataset, RefusesWhatCannotBe) {
  EXPECT_THROW(hdf5("", {"images"}), ConfigError);
  EXPECT_THROW(hdf5("digits.h5", {}), ConfigError);
  EXPECT_THROW(hdf5("digits.h5", {"images", "labels", "images"}), ConfigError);
  const Dataset ten = hdf5("digits.h5", {"images"}).take(10);
  EXPECT_THROW(ten.take(-1), ConfigError);
  EXPECT_THROW(ten.drop(-1), ConfigError);
  EXPECT_THROW(ten.take(11), DataError);
  EXPECT_THROW(ten.drop(11), DataError);
  EXPECT_EQ(ten.drop(10).count(), 0);
}

}  // namespace
}  // namespace lab
