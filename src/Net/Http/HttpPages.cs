// HttpPages: the plain HTTP pages of a member, by listener. Status codes, bodies and headers are etcd 3.6's
// (http.md; the recorded answers are replayed by the tests). Any I/O thread.
using System;
using System.Buffers;
using System.Collections.Generic;
using System.IO;
using System.IO.Compression;
using System.Text;
using System.Text.Json;
using System.Threading.Tasks;
using Cairn.Core.Membership;
using Cairn.Core.Server;
using Cairn.Net.Host;
using Cairn.Net.Services;

namespace Cairn.Net.Http;

/// <summary>Routes and answers.</summary>
internal sealed class HttpPages(MemberPort port, HostOptions options, ServerMetrics metrics)
{
    private const string PlainText = "text/plain; charset=utf-8";
    private const string Json = "application/json";
    private readonly HealthChecks _health = new(port);

    /// <summary>The client listeners.</summary>
    public ValueTask ServeClientAsync(HttpCall call)
    {
        if (!IsHostAllowed(call.Host))
        {
            call.ReplyError(421, "\netcd received your request, but the Host header was unrecognized.\n\n"
                + "To fix this, choose one of the following options:\n"
                + "- Connect with an IP address or \"localhost\"; those are always allowed.\n"
                + "- Add the host you use to --host-whitelist.\n");
            return ValueTask.CompletedTask;
        }

        AddCors(call);
        if (call.Method == "OPTIONS")
        {
            call.Reply(200, "", "");
            return ValueTask.CompletedTask;
        }

        string clean = Clean(call.Path);
        if (clean != call.Path)
        {
            Redirect(call, clean);
            return ValueTask.CompletedTask;
        }

        if (call.Path == "/debug/vars")
        {
            if (AllowsGet(call))
            {
                call.Reply(200, "application/json; charset=utf-8", DebugVars.Write(port.Member));
            }

            return ValueTask.CompletedTask;
        }

        if (call.Path == "/version")
        {
            if (AllowsGet(call))
            {
                Version(call, port.Member);
            }

            return ValueTask.CompletedTask;
        }

        return ServeMetricsAsync(call);
    }

    /// <summary>The metrics listeners, and what clients may see besides.</summary>
    public async ValueTask ServeMetricsAsync(HttpCall call)
    {
        switch (call.Path)
        {
            case "/metrics":
                Metrics(call);
                return;
            case "/health":
                await HealthAsync(call);
                return;
            case "/livez":
                await ChecksAsync(call, "livez", HealthChecks.LiveNames);
                return;
            case "/readyz":
                await ChecksAsync(call, "readyz", HealthChecks.ReadyNames);
                return;
            default:
                if (SingleCheck(call.Path, "/livez/", HealthChecks.LiveNames) is string live)
                {
                    await ChecksAsync(call, "livez", [live], single: true);
                }
                else if (SingleCheck(call.Path, "/readyz/", HealthChecks.ReadyNames) is string ready)
                {
                    await ChecksAsync(call, "readyz", [ready], single: true);
                }
                else
                {
                    call.NotFound();
                }

                return;
        }
    }

    /// <summary>A path without doubled slashes and dot segments, as Go's router wants it.</summary>
    internal static string Clean(string path)
    {
        if (path.Length == 0 || path[0] != '/')
        {
            path = "/" + path;
        }

        var kept = new List<string>();
        string[] parts = path.Split('/');
        foreach (string part in parts)
        {
            if (part == "..")
            {
                if (kept.Count != 0)
                {
                    kept.RemoveAt(kept.Count - 1);
                }
            }
            else if (part.Length != 0 && part != ".")
            {
                kept.Add(part);
            }
        }

        string clean = "/" + string.Join('/', kept);
        return path.EndsWith('/') && clean != "/" ? clean + "/" : clean;
    }

    private static string? SingleCheck(string path, string prefix, string[] names)
    {
        if (!path.StartsWith(prefix, StringComparison.Ordinal))
        {
            return null;
        }

        string name = path[prefix.Length..];
        return Array.IndexOf(names, name) < 0 ? null : name;
    }

    /// <summary>True for a GET; anything else has been refused.</summary>
    internal static bool AllowsGet(HttpCall call)
    {
        if (call.IsGet)
        {
            return true;
        }

        call.SetHeader("Allow", "GET");
        call.ReplyError(405, "Method Not Allowed\n");
        return false;
    }

    private static void Redirect(HttpCall call, string path)
    {
        string target = path + (call.Query.Length == 0 ? "" : "?" + call.Query);
        call.SetHeader("Location", target);
        if (call.Method is "GET" or "HEAD")
        {
            call.Reply(301, "text/html; charset=utf-8", "<a href=\"" + System.Net.WebUtility.HtmlEncode(target) + "\">Moved Permanently</a>.\n\n");
        }
        else
        {
            call.Reply(301, "", "");
        }
    }

    /// <summary>Answers <c>/version</c>.</summary>
    internal static void Version(HttpCall call, Member member)
    {
        string cluster = member.ClusterView.Version;
        string storage = member.StorageVersion;
        call.Reply(200, Json, "{\"etcdserver\":\"" + member.Options.ServerVersion
            + "\",\"etcdcluster\":\"" + (cluster.Length == 0 ? "not_decided" : cluster)
            + "\",\"storage\":\"" + (storage.Length == 0 ? "unknown" : storage) + "\"}");
    }

    /// <summary>Answers <c>/members</c>.</summary>
    internal static void Members(HttpCall call, Member member)
    {
        var body = new ArrayBufferWriter<byte>();
        body.Write("["u8);
        bool first = true;
        foreach (ClusterMember each in member.ClusterView.Members)
        {
            if (!first)
            {
                body.Write(","u8);
            }

            first = false;
            each.WriteJson(body);
        }

        body.Write("]\n"u8);
        call.SetHeader("X-Etcd-Cluster-ID", member.ClusterId.ToString("x", System.Globalization.CultureInfo.InvariantCulture));
        call.Reply(200, Json, body.WrittenMemory);
    }

    /// <summary>The body of a bad answer of <c>/health</c>.</summary>
    internal static string Unhealthy(string reason)
        => "{\"health\":\"false\",\"reason\":\"" + JsonEncodedText.Encode(reason) + "\"}\n";

    private async ValueTask HealthAsync(HttpCall call)
    {
        if (!AllowsGet(call))
        {
            return;
        }

        bool serializable = call.QueryValues("serializable") is ["true", ..];
        string? reason = await _health.HealthAsync(call.QueryValues("exclude"), serializable);
        metrics.CountHealth(reason is null);
        if (reason is null)
        {
            call.Reply(200, PlainText, "{\"health\":\"true\",\"reason\":\"\"}");
            return;
        }

        call.ReplyError(503, Unhealthy(reason));
    }

    private async ValueTask ChecksAsync(HttpCall call, string type, string[] names, bool single = false)
    {
        if (!AllowsGet(call))
        {
            return;
        }

        List<string> excluded = single ? [] : call.QueryValues("exclude");
        var lines = new StringBuilder();
        bool failed = false;
        foreach (string name in names)
        {
            if (excluded.Contains(name))
            {
                continue;
            }

            CheckOutcome outcome = await _health.RunAsync(name);
            metrics.CountCheck(type, name, outcome.Failure is null);
            failed |= outcome.Failure is not null;
            _ = outcome.Failure is null
                ? lines.Append("[+]").Append(name).Append(" ok\n")
                : lines.Append("[-]").Append(name).Append(" failed: ").Append(outcome.Failure).Append('\n');
        }

        if (failed)
        {
            call.ReplyError(503, lines.Append('\n').ToString());
            return;
        }

        call.SetHeader("X-Content-Type-Options", "nosniff");
        call.Reply(200, PlainText, (call.HasQuery("verbose") ? lines.ToString() : "") + "ok\n");
    }

    private void Metrics(HttpCall call)
    {
        ReadOnlyMemory<byte> page = metrics.Write();
        if (call.AcceptEncoding.Contains("gzip", StringComparison.OrdinalIgnoreCase))
        {
            using var packed = new MemoryStream();
            using (var packer = new GZipStream(packed, CompressionLevel.Fastest, leaveOpen: true))
            {
                packer.Write(page.Span);
            }

            page = packed.ToArray();
            call.SetHeader("Content-Encoding", "gzip");
        }

        call.Reply(200, "text/plain; version=0.0.4; charset=utf-8; escaping=underscores", page);
    }

    private bool IsHostAllowed(string host)
    {
        if (Contains(options.HostWhitelist, "*") || options.HostWhitelist.Count == 0)
        {
            return true;
        }

        string name = host;
        int colon = host.LastIndexOf(':');
        if (colon >= 0 && host.IndexOf(']', StringComparison.Ordinal) < colon)
        {
            name = host[..colon];
        }

        name = name.Trim('[', ']');
        return name is "localhost" || System.Net.IPAddress.TryParse(name, out _) || Contains(options.HostWhitelist, name);
    }

    private void AddCors(HttpCall call)
    {
        string? origin = options.Cors.Count == 0 || Contains(options.Cors, "*") ? "*"
            : Contains(options.Cors, call.Origin) ? call.Origin : null;
        if (origin is not null)
        {
            call.SetHeader("Access-Control-Allow-Methods", "POST, GET, OPTIONS, PUT, DELETE");
            call.SetHeader("Access-Control-Allow-Origin", origin);
            call.SetHeader("Access-Control-Allow-Headers", "accept, content-type, authorization");
        }
    }

    private static bool Contains(IReadOnlyList<string> words, string word)
    {
        foreach (string known in words)
        {
            if (known == word)
            {
                return true;
            }
        }

        return false;
    }
}
