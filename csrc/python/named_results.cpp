// The types of named results, made at the first call of an operator that has them.
#include "python/named_results.h"

#include <vector>

namespace vt::py {

PyTypeObject* named_results(const char* name, std::initializer_list<const char*> fields) {
  std::vector<PyStructSequence_Field> rows;
  for (const char* field : fields) rows.push_back({field, nullptr});
  rows.push_back({nullptr, nullptr});
  PyStructSequence_Desc description = {name, nullptr, rows.data(), static_cast<int>(fields.size())};
  PyTypeObject* type = PyStructSequence_NewType(&description);
  if (!type) throw PythonError();
  return type;
}

}  // namespace vt::py
