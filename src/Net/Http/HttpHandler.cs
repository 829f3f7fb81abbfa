// HttpHandler: what serves pages.
using System.Threading.Tasks;

namespace Cairn.Net.Http;

/// <summary>Serves a page; must reply.</summary>
internal delegate ValueTask HttpHandler(HttpCall call);
