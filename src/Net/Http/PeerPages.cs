// PeerPages: the plain HTTP pages of the peer port: what joining members, tools and people ask. Served from before the member
// is ready: a cluster that is forming asks its own members. Any pool thread.
using System.Globalization;
using System.Threading.Tasks;
using Cairn.Core.Server;
using Cairn.Net.Services;

namespace Cairn.Net.Http;

/// <summary>Routes and answers.</summary>
internal sealed class PeerPages(Member member, Base.IClock clock)
{
    private const string PlainText = "text/plain; charset=utf-8";
    private readonly HealthChecks _health = new(new MemberPort(member, clock));

    /// <summary>Serves one request.</summary>
    public async ValueTask ServeAsync(HttpCall call)
    {
        switch (call.Path)
        {
            case "/version" when HttpPages.AllowsGet(call):
                HttpPages.Version(call, member);
                break;
            case "/members" when HttpPages.AllowsGet(call):
                HttpPages.Members(call, member);
                break;
            case "/downgrade/enabled" when HttpPages.AllowsGet(call):
                call.SetHeader("X-Etcd-Cluster-ID", member.ClusterId.ToString("x", CultureInfo.InvariantCulture));
                call.Reply(200, PlainText, member.ClusterView.Downgrade.Enabled ? "true" : "false");
                break;
            case "/health" when HttpPages.AllowsGet(call):
                await HealthAsync(call);
                break;
            case "/version" or "/members" or "/downgrade/enabled" or "/health":
                break; // answered: not a GET
            default:
                if (call.Path.StartsWith("/raft", System.StringComparison.Ordinal))
                {
                    // An etcd member: it understands this one.
                    call.ReplyError(412, "incompatible version\n");
                    break;
                }

                call.NotFound();
                break;
        }
    }

    private async ValueTask HealthAsync(HttpCall call)
    {
        string? reason = await _health.HealthAsync(call.QueryValues("exclude"), call.QueryValues("serializable") is ["true", ..]);
        if (reason is null)
        {
            call.Reply(200, PlainText, "{\"health\":\"true\",\"reason\":\"\"}");
        }
        else
        {
            call.ReplyError(503, HttpPages.Unhealthy(reason));
        }
    }
}
