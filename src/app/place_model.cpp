#include "app/place_model.h"

#include "lab/comm/agreement.h"
#include "lab/train/flat.h"

namespace lab {

void place_model(const Session& session, const TrainerOptions& options, Model& model, const Upload& upload,
                 const std::function<void()>& load) {
  agree(session.comm(), [&] {
    set_precision(model, options);
    if (session.comm().rank() == 0) load();
  });
  broadcast_model(session.comm(), model.module());
  agree(session.comm(), [&] { model.module().to(upload.device()); });
  if (options.memory_format == "channels_last") order_channels_last(model.module());
}

}  // namespace lab
