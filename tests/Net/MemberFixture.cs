// MemberFixture: a whole member on free ports with its data in a temporary directory.
using System;
using System.IO;
using System.Threading.Tasks;
using Cairn.Base;
using Cairn.Core.Server;
using Cairn.Net.Host;
using Microsoft.Extensions.Logging.Abstractions;

namespace Cairn.Net.Tests;

internal sealed class MemberFixture : IAsyncDisposable
{
    private readonly bool _ownsDirectory;
    private bool _stopped;

    private MemberFixture(MemberHost host, string directory, bool ownsDirectory)
    {
        Host = host;
        Directory = directory;
        _ownsDirectory = ownsDirectory;
        Client = new GrpcClient(host.ClientPorts[0]);
    }

    public MemberHost Host { get; }

    public GrpcClient Client { get; }

    public string Directory { get; }

    public int Port => Host.ClientPorts[0];

    /// <summary>A directory that the caller removes.</summary>
    public static string NewDirectory() => Path.Combine(Path.GetTempPath(), "cairn-net-" + Guid.NewGuid().ToString("N"));

    public static async Task<MemberFixture> StartAsync(
        Func<MemberOptions, MemberOptions>? member = null, Func<HostOptions, HostOptions>? host = null, string? directory = null)
    {
        string data = directory ?? NewDirectory();
        _ = ListenUrl.TryParse("http://127.0.0.1:0", out ListenUrl any, out _);
        var options = new MemberOptions { DataDir = data, RequestSlots = 16 };
        var hosting = new HostOptions { Member = member?.Invoke(options) ?? options, ListenClientUrls = [any], Engine = FrontFixture.Engine };
        hosting = host?.Invoke(hosting) ?? hosting;
        var opened = MemberHost.Open(hosting, NullLoggerFactory.Instance, NoFatal.Instance);
        await opened.StartAsync();
        return new MemberFixture(opened, data, directory is null);
    }

    public async Task StopAsync()
    {
        if (!_stopped)
        {
            _stopped = true;
            Client.Dispose();
            await Host.StopAsync();
        }
    }

    public async ValueTask DisposeAsync()
    {
        await StopAsync();
        if (_ownsDirectory)
        {
            System.IO.Directory.Delete(Directory, recursive: true);
        }
    }
}

/// <summary>A broken invariant fails the test's thread.</summary>
internal sealed class NoFatal : IFatal
{
    public static readonly NoFatal Instance = new();

    [System.Diagnostics.CodeAnalysis.DoesNotReturn]
    public void Stop(string message, Exception? cause = null) => throw new InvariantException(message + " " + cause);
}
